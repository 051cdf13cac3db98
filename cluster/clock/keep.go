package clock

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// What is kept: the time at a moment of a boot.
const (
	bucket = "clock"
	key    = "known"
)

type record struct {
	Wall   int64         `json:"wall"` // milliseconds since 1970
	Uptime time.Duration `json:"uptime"`
	Boot   string        `json:"boot"`
}

// load reads what was kept. What cannot be read is as if it were not there: the floor is known all the same.
func load(db *bbolt.DB) (r record, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		if json.Unmarshal(b.Get([]byte(key)), &r) != nil {
			r = record{}
		}
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("read clock: %w", err)
	}
	return r, nil
}

// keep writes what is known. While the time is only known to be later than something, it is that which is kept.
func (c *Clock) keep() error {
	c.mu.Lock()
	now, _ := c.look()
	r := record{now.UnixMilli(), c.cfg.Uptime(), c.cfg.Boot}
	if !c.exact {
		r.Boot = "" // of no use to count on from
	}
	c.mu.Unlock()
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keep clock: %w", err)
	}
	err = c.cfg.DB.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(key), raw)
	})
	if err != nil {
		return fmt.Errorf("keep clock: %w", err)
	}
	return nil
}
