package outbox

import (
	"errors"
	"fmt"
	"maps"
	"os"

	"go.etcd.io/bbolt"
)

func (t *tally) subtract(o *tally) {
	for c := range t.Count {
		t.Count[c] -= o.Count[c]
	}
	t.Samples -= o.Samples
	t.Bytes -= o.Bytes
}

// draft is the books of a cold tier as a transaction would leave them.
type draft struct {
	phys, tally tally
	acked       map[lane]uint64
}

func (d *draft) add(m *meta) {
	d.phys.add(m)
	d.tally.add(m)
}

func (d *draft) sub(m *meta) {
	d.phys.sub(m)
	if m.seq > d.acked[lane{m.class.stream(), m.epoch}] {
		d.tally.sub(m)
	}
}

// change applies e in one transaction, and deletes with it what was acknowledged meanwhile. The state it keeps tells
// what the file then holds.
func (c *cold) change(e *edit) error {
	d := &draft{c.phys, c.tally, maps.Clone(c.acked)}
	err := c.guard(true, func(tx *bbolt.Tx) error {
		for i := range e.del {
			if err := c.erase(tx, d, e.del[i].class.stream(), e.del[i].key); err != nil {
				return err
			}
		}
		for i := range e.put {
			r := &e.put[i]
			if err := c.erase(tx, d, r.class.stream(), r.key); err != nil {
				return err
			}
			b, err := tx.CreateBucketIfNotExists(bucketOf(r.class.stream()))
			if err != nil {
				return err
			}
			b.FillPercent = 0.9 // keys only grow
			if err := b.Put(r.key.bytes(), appendRecord(nil, r)); err != nil {
				return err
			}
			d.add(&r.meta)
		}
		if err := c.purge(tx, d); err != nil {
			return err
		}
		e.st.Cold = d.phys
		return putState(tx, &e.st)
	})
	if err != nil {
		return err
	}
	c.phys, c.tally, c.acked = d.phys, d.tally, d.acked
	return nil
}

// erase deletes the record at k, if there is one.
func (c *cold) erase(tx *bbolt.Tx, d *draft, s stream, k key) error {
	b := tx.Bucket(bucketOf(s))
	if b == nil {
		return nil
	}
	v := b.Get(k.bytes())
	if v == nil {
		return nil
	}
	r, err := c.parse(k.bytes(), v)
	if err != nil {
		return err
	}
	d.sub(&r.meta)
	return b.Delete(k.bytes())
}

// purge deletes what is acknowledged, up to a bound.
func (c *cold) purge(tx *bbolt.Tx, d *draft) error {
	left := purgeChunk
	for l, seq := range d.acked {
		var gone []key
		err := c.walk(tx, l.stream, key{l.epoch, 0}, func(r *record) (bool, error) {
			if r.epoch != l.epoch || r.seq > seq || len(gone) == left {
				return false, nil
			}
			gone = append(gone, r.key)
			return true, nil
		})
		if err != nil {
			return err
		}
		for _, k := range gone {
			if err := c.erase(tx, d, l.stream, k); err != nil {
				return err
			}
		}
		if left -= len(gone); left == 0 {
			return nil
		}
		delete(d.acked, l)
	}
	return nil
}

// reset ends a backlog that is drained: the file goes, or makes way for one that holds nothing but st.
func (c *cold) reset(st *state) error {
	if err := c.rest(); err != nil {
		return err
	}
	if !st.worthKeeping() {
		if err := os.Remove(c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", c.path, err)
		}
	} else if err := c.replace(st); err != nil {
		return err
	}
	c.phys, c.tally, c.acked = tally{}, tally{}, map[lane]uint64{}
	return nil
}

func (c *cold) replace(st *state) error {
	next := newCold(c.path + ".new")
	if err := os.Remove(next.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", next.path, err)
	}
	err := next.change(&edit{st: *st})
	err = errors.Join(err, next.rest())
	c.wrote += next.wrote
	if err == nil {
		err = os.Rename(next.path, c.path)
	}
	if err != nil {
		return fmt.Errorf("replace %s: %w", c.path, err)
	}
	return nil
}
