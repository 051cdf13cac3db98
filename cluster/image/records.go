package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"go.etcd.io/bbolt"
)

const (
	bucketRefs      = "image.refs"      // name:tag → refRecord
	bucketManifests = "image.manifests" // digest → manifestRecord
)

func (c *Cache) loadRecords() error {
	return c.cfg.DB.Update(func(tx *bbolt.Tx) error {
		manifests, err := tx.CreateBucketIfNotExists([]byte(bucketManifests))
		if err != nil {
			return err
		}
		refs, err := tx.CreateBucketIfNotExists([]byte(bucketRefs))
		if err != nil {
			return err
		}
		err = manifests.ForEach(func(k, v []byte) error {
			var rec manifestRecord
			digest := strings.Clone(string(k))
			if _, here := c.blobs[digest]; !here {
				return nil
			}
			if err := json.Unmarshal(v, &rec); err != nil {
				return fmt.Errorf("record of %s: %w", digest, err)
			}
			c.manifests[digest] = &rec
			return nil
		})
		if err != nil {
			return err
		}
		return refs.ForEach(func(k, v []byte) error {
			var rec refRecord
			if err := json.Unmarshal(v, &rec); err != nil {
				return fmt.Errorf("record of %s: %w", k, err)
			}
			if c.manifests[rec.Digest] != nil {
				c.refs[strings.Clone(string(k))] = rec
			}
			return nil
		})
	})
}

// putJSON writes a record; nil deletes it.
func putJSON(tx *bbolt.Tx, bucket, key string, v any) error {
	b := tx.Bucket([]byte(bucket))
	if v == nil {
		return b.Delete([]byte(key))
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), raw)
}

// setRef notes what a name stands for.
func (c *Cache) setRef(key string, rec refRecord) error {
	c.mu.Lock()
	old, had := c.refs[key]
	c.refs[key] = rec
	c.mu.Unlock()
	if had && old.Digest == rec.Digest && old.Imported == rec.Imported {
		return nil // when it was checked last is worth no write
	}
	return c.cfg.DB.Update(func(tx *bbolt.Tx) error { return putJSON(tx, bucketRefs, key, rec) })
}

// setManifest notes a manifest that is in the store.
func (c *Cache) setManifest(digest string, rec manifestRecord) error {
	c.mu.Lock()
	_, had := c.manifests[digest]
	c.manifests[digest] = &rec
	c.mu.Unlock()
	if had {
		return nil
	}
	return c.cfg.DB.Update(func(tx *bbolt.Tx) error { return putJSON(tx, bucketManifests, digest, rec) })
}

// touch notes that a manifest was asked for.
func (c *Cache) touch(digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rec := c.manifests[digest]; rec != nil {
		rec.Used = c.cfg.Now()
		c.dirty[digest] = true
	}
}

// flush writes down when manifests were last used.
func (c *Cache) flush() error {
	c.mu.Lock()
	records := map[string]manifestRecord{}
	for digest := range c.dirty {
		if rec := c.manifests[digest]; rec != nil {
			records[digest] = *rec
		}
	}
	taken := c.dirty
	c.dirty = map[string]bool{}
	c.mu.Unlock()
	if len(records) == 0 {
		return nil
	}
	err := c.cfg.DB.Update(func(tx *bbolt.Tx) error {
		for digest, rec := range records {
			if err := putJSON(tx, bucketManifests, digest, rec); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.mu.Lock()
		maps.Copy(c.dirty, taken)
		c.mu.Unlock()
	}
	return err
}

// removeRef removes a name. Caller holds mu.
func (c *Cache) removeRef(key string) error {
	err := c.cfg.DB.Update(func(tx *bbolt.Tx) error { return putJSON(tx, bucketRefs, key, nil) })
	if err == nil {
		delete(c.refs, key)
	}
	return err
}
