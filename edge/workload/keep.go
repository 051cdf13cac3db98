package workload

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

var bucketWorkloads = []byte("workloads")

// keeper has memories on flash, by workload.
type keeper struct{ db *bbolt.DB }

// load reads all that there are. One that cannot be read is left out: what it is of counts as not remembered.
func (k keeper) load() (map[string]Memory, error) {
	out := map[string]Memory{}
	err := k.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketWorkloads)
		if b == nil {
			return nil
		}
		return b.ForEach(func(name, raw []byte) error {
			var m Memory
			if json.Unmarshal(raw, &m) != nil || m.Hash == "" {
				return nil
			}
			if m.Containers == nil {
				m.Containers = map[string]*Past{}
			}
			for container, p := range m.Containers {
				if p == nil {
					delete(m.Containers, container)
				}
			}
			out[string(name)] = m
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read workloads: %w", err)
	}
	return out, nil
}

// save writes memories at once; one without a hash is removed.
func (k keeper) save(memories map[string]*Memory) error {
	err := k.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketWorkloads)
		if err != nil {
			return err
		}
		var errs []error
		for name, m := range memories {
			if m.Hash == "" {
				errs = append(errs, b.Delete([]byte(name)))
				continue
			}
			raw, err := json.Marshal(m)
			if err != nil {
				return err
			}
			errs = append(errs, b.Put([]byte(name), raw))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("keep workloads: %w", err)
	}
	return nil
}
