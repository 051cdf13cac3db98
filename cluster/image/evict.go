package image

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// orphanAge is how old a blob of no manifest has to be to be evicted: the manifest may be on its way.
const orphanAge = 10 * time.Minute

// reserve sets n bytes of the store aside, which the caller gives back; it evicts what was used longest ago.
func (c *Cache) reserve(n int64) error {
	c.mu.Lock()
	if c.bytes+n <= c.cfg.MaxBytes {
		c.bytes += n
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	wanted, err := c.wanted()
	if err != nil {
		return fmt.Errorf("make room for images: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.evict(n, wanted)
	if c.bytes+n > c.cfg.MaxBytes {
		return errors.Join(err, refuse(http.StatusInsufficientStorage, "UNAVAILABLE",
			"the cluster agent's images take %s of %s (images.max_bytes), all of it imported, in use, or wanted by nodes; %s more do not fit",
			agent.Size(float64(c.bytes)), agent.Size(float64(c.cfg.MaxBytes)), agent.Size(float64(n))))
	}
	c.bytes += n
	return err
}

// wanted are the names and digests that desired documents have.
func (c *Cache) wanted() (map[string]bool, error) {
	out := map[string]bool{}
	if c.cfg.Wanted == nil {
		return out, nil
	}
	list, err := c.cfg.Wanted()
	for _, text := range list {
		name, err := api.ParseImageName(text)
		if err != nil {
			continue // no node can pull it
		}
		if name.Digest != "" {
			out[name.Digest] = true
			continue
		}
		out[name.String()] = true
	}
	return out, err
}

// held are the manifests that must stay, with all that they are made of. Caller holds mu.
func (c *Cache) held(wanted map[string]bool) map[string]bool {
	out := map[string]bool{}
	for digest := range c.manifests {
		if wanted[digest] {
			c.closure(digest, out)
		}
	}
	for key, rec := range c.refs {
		if rec.Imported || wanted[key] {
			c.closure(rec.Digest, out)
		}
	}
	return out
}

// closure adds a manifest and all that it is made of. Caller holds mu.
func (c *Cache) closure(digest string, into map[string]bool) {
	if into[digest] {
		return
	}
	into[digest] = true
	if c.manifests[digest] == nil {
		return
	}
	for _, part := range c.parts(digest) {
		c.closure(part, into)
	}
}

// parts are what a manifest names. Caller holds mu.
func (c *Cache) parts(digest string) []string {
	if list, known := c.children[digest]; known {
		return list
	}
	var list []string
	raw, err := os.ReadFile(c.blobPath(digest))
	if err == nil {
		var m *manifest
		if m, err = parseManifest(raw); err == nil {
			for _, d := range m.parts() {
				list = append(list, d.Digest)
			}
		}
	}
	if err != nil {
		c.cfg.Log.Warn("manifest cannot be read", agent.KeyReason, digest, agent.KeyErr, err)
		return nil
	}
	c.children[digest] = list
	return list
}

// evict removes images, those used longest ago first, until n bytes more fit. Caller holds mu.
func (c *Cache) evict(n int64, wanted map[string]bool) error {
	held := c.held(wanted)
	oldest := slices.SortedFunc(maps.Keys(c.manifests), func(a, b string) int { return c.manifests[a].Used.Compare(c.manifests[b].Used) })
	faults := c.removeOrphans(held, orphanAge)
	for _, digest := range oldest {
		if c.bytes+n <= c.cfg.MaxBytes {
			break
		}
		if held[digest] {
			continue
		}
		c.stats.evicted.Add(1)
		faults = errors.Join(faults, c.removeManifest(digest), c.removeOrphans(held, orphanAge, c.children[digest]...))
		delete(c.children, digest)
	}
	return faults
}

// removeManifest removes a manifest and the names that stand for it. Caller holds mu.
func (c *Cache) removeManifest(digest string) error {
	var names []string
	for key, rec := range c.refs {
		if rec.Digest == digest {
			names = append(names, key)
		}
	}
	err := c.cfg.DB.Update(func(tx *bbolt.Tx) error {
		for _, key := range names {
			if err := putJSON(tx, bucketRefs, key, nil); err != nil {
				return err
			}
		}
		return putJSON(tx, bucketManifests, digest, nil)
	})
	if err != nil {
		return err
	}
	c.parts(digest) // read once more, so that its parts can go too
	for _, key := range names {
		delete(c.refs, key)
	}
	delete(c.manifests, digest)
	return c.removeBlob(digest)
}

// removeOrphans removes the blobs of no manifest that are old enough, and those among them of parts whatever their age. Caller
// holds mu.
func (c *Cache) removeOrphans(held map[string]bool, age time.Duration, parts ...string) error {
	used := maps.Clone(held)
	for digest := range c.manifests {
		used[digest] = true
		for _, part := range c.parts(digest) {
			used[part] = true
		}
	}
	var faults []error
	for key := range c.blobs {
		digest := strings.TrimSuffix(key, repackedSuffix)
		if used[digest] || c.flights[key] != nil {
			continue
		}
		if !slices.Contains(parts, digest) {
			info, err := os.Stat(c.blobPath(key))
			if err == nil && c.cfg.Now().Sub(info.ModTime()) < age {
				continue
			}
		}
		faults = append(faults, c.removeBlob(key))
	}
	return errors.Join(faults...)
}

// removeBlob removes a file of the store. Who is reading it reads on. Caller holds mu.
func (c *Cache) removeBlob(key string) error {
	err := os.Remove(c.blobPath(key))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.bytes -= c.blobs[key]
	delete(c.blobs, key)
	return nil
}

// forget drops what turned out not to be there, or not to be what it was.
func (c *Cache) forget(key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, is := c.manifests[key]; is {
		delete(c.children, key)
		return c.removeManifest(key)
	}
	return c.removeBlob(key)
}
