package outbox

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// before returns the record of l with the greatest seq below seq that is not acknowledged.
func (c *cold) before(l lane, seq uint64) (prev uint64, err error) {
	if c.tally.stream(l.stream) == 0 {
		return 0, nil
	}
	err = c.guard(false, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOf(l.stream))
		if b == nil {
			return nil
		}
		cur := b.Cursor()
		k, _ := cur.Seek(key{l.epoch, seq}.bytes())
		if k == nil {
			k, _ = cur.Last()
		} else {
			k, _ = cur.Prev()
		}
		if k == nil {
			return nil
		}
		at, err := parseKey(k)
		if err == nil && at.epoch == l.epoch && at.seq > c.acked[l] {
			prev = at.seq
		}
		return err
	})
	return prev, err
}

// last returns the greatest key of s, zero without one.
func (c *cold) last(s stream) (k key, err error) {
	if c.phys.stream(s) == 0 {
		return key{}, nil
	}
	err = c.guard(false, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOf(s))
		if b == nil {
			return fmt.Errorf("%w: bucket is missing", errDamaged)
		}
		at, _ := b.Cursor().Last()
		if at != nil {
			k, err = parseKey(at)
		}
		return err
	})
	return k, err
}

// ack forgets the records of l up to seq; they are deleted with the next change.
func (c *cold) ack(l lane, seq uint64) error {
	done := c.acked[l]
	if c.tally.stream(l.stream) == 0 || seq <= done {
		return nil
	}
	gone := tally{}
	err := c.guard(false, func(tx *bbolt.Tx) error {
		return c.walk(tx, l.stream, key{l.epoch, done + 1}, func(r *record) (bool, error) {
			if r.epoch != l.epoch || r.seq > seq {
				return false, nil
			}
			gone.add(&r.meta)
			return true, nil
		})
	})
	if err == nil && !gone.empty() {
		c.acked[l] = seq
		c.tally.subtract(&gone)
	}
	return err
}

// holds reports whether the record is here, as far as that can be read.
func (c *cold) holds(m *meta) (found bool) {
	err := c.scan(m.class.stream(), m.key, func(at meta) bool {
		found = at.key == m.key
		return false
	})
	return found && err == nil
}
