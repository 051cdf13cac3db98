package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/edge/pages"
)

// verify reads every page and every record of the file once, before anything in it is trusted, and returns the state
// that it keeps. It is done at start only, and only when there is a backlog.
func (c *cold) verify() (state, error) {
	var st state
	var sum tally
	if err := c.rest(); err != nil {
		return st, err
	}
	if err := untangled(c.path); err != nil {
		return st, err
	}
	err := c.guard(false, func(tx *bbolt.Tx) error {
		var err error
		if st, err = readState(tx); err != nil {
			return err
		}
		for s := range streams {
			if err := c.verifyStream(tx, s, &sum); err != nil {
				return err
			}
		}
		if sum != st.Cold {
			return fmt.Errorf("%w: holds %v, should hold %v", errDamaged, sum, st.Cold)
		}
		var first error
		for err := range tx.Check() { // to its end: bbolt's goroutine waits to be heard
			if first == nil {
				first = fmt.Errorf("%w: %w", errDamaged, err)
			}
		}
		return first
	})
	if err == nil {
		c.phys, c.tally, c.known = sum, sum, true
	}
	return st, err
}

// untangled looks whether bbolt may be let near a file.
func untangled(path string) error {
	err := pages.Tangled(path)
	if errors.Is(err, pages.ErrDamaged) {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return err
}

func (c *cold) verifyStream(tx *bbolt.Tx, s stream, sum *tally) error {
	last := key{}
	return c.walk(tx, s, key{}, func(r *record) (bool, error) {
		if err := sound(r, s, last); err != nil {
			return false, err
		}
		last = r.key
		sum.add(&r.meta)
		return true, nil
	})
}

// sound checks a record's payload and its place: after last, in the stream of its class.
func sound(r *record, s stream, last key) error {
	if checksum(r.payload) != r.sum {
		return fmt.Errorf("%w: epoch %d seq %d: %w", errDamaged, r.epoch, r.seq, errPayload)
	}
	if r.class.stream() != s || !last.less(r.key) {
		return fmt.Errorf("%w: epoch %d seq %d is out of place", errDamaged, r.epoch, r.seq)
	}
	return nil
}

func readState(tx *bbolt.Tx) (st state, err error) {
	b := tx.Bucket([]byte(bucketMeta))
	if b == nil {
		return st, nil // made, but never committed to
	}
	r, err := parseRecord(b.Get([]byte(keyState)))
	if err == nil {
		err = json.Unmarshal(r.payload, &st)
	}
	if err != nil {
		return st, fmt.Errorf("%w: state: %w", errDamaged, err)
	}
	return st, nil
}

// rescue is what became of a damaged file.
type rescue struct {
	aside string // where it is now
	bytes int64  // its length
	state state  // the state it kept, if that could be read
	saved tally  // what could be read, and is in the new file
}

// setAside moves the damaged file out of the way as outbox.db.corrupt-n, n being st's count, in place of any set aside
// before, and begins a new one with every record that can still be read. With read unset it does not look into the damaged file at all.
func (c *cold) setAside(st *state, read bool) (*rescue, error) {
	if err := c.rest(); err != nil {
		return nil, err
	}
	old, err := filepath.Glob(c.path + ".corrupt-*")
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", c.path, err)
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return nil, fmt.Errorf("remove %s: %w", name, err)
		}
	}
	res := &rescue{aside: fmt.Sprintf("%s.corrupt-%d", c.path, st.Corruptions)}
	if info, err := os.Stat(c.path); err == nil {
		res.bytes = info.Size()
	}
	if err := os.Rename(c.path, res.aside); err != nil {
		return nil, fmt.Errorf("set %s aside: %w", c.path, err)
	}
	acked := c.acked
	c.phys, c.tally, c.acked, c.known = tally{}, tally{}, map[lane]uint64{}, true
	if read {
		err = c.salvage(res, st, acked)
		res.saved = c.tally
	}
	return res, err
}

// salvage copies what can be read: forwards until the damage, then backwards until the damage.
func (c *cold) salvage(res *rescue, st *state, acked map[lane]uint64) error {
	if untangled(res.aside) != nil {
		return nil
	}
	bad := newCold(res.aside)
	defer bad.abandon()
	if bad.openDamaged() != nil { // nothing can be read: that is what the tally is for
		return nil
	}
	if err := bad.guardRead(func(tx *bbolt.Tx) (err error) {
		res.state, err = readState(tx)
		return err
	}); err != nil {
		res.state = state{}
	}
	for s := range streams {
		last := key{}
		for _, forward := range [...]bool{true, false} {
			if bad.openDamaged() != nil {
				return nil
			}
			if err := c.copyFrom(bad, pass{s, forward, acked, st}, &last); err != nil {
				return err
			}
		}
	}
	return nil
}

// openDamaged opens the file for reading alone: its freelist does not matter then.
func (c *cold) openDamaged() (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.abandon()
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return c.open(true)
}

func (c *cold) guardRead(fn func(tx *bbolt.Tx) error) error {
	if c.db == nil {
		return errDamaged
	}
	return c.guard(false, fn)
}

// pass is one walk over one bucket of a damaged file.
type pass struct {
	stream  stream
	forward bool
	acked   map[lane]uint64
	st      *state // to keep in the new file
}

// copyFrom copies the sound records that one pass over bad meets into c. Only a failure of c is an error.
func (c *cold) copyFrom(bad *cold, p pass, last *key) error {
	e := edit{st: *p.st}
	var size int64
	var fail error
	flush := func() bool {
		if len(e.put) > 0 {
			fail = c.change(&e)
		}
		e, size = edit{st: *p.st}, 0
		return fail == nil
	}
	_ = bad.guardRead(func(tx *bbolt.Tx) error { // trouble with reading the damaged file is no news
		b := tx.Bucket(bucketOf(p.stream))
		if b == nil {
			return nil
		}
		cur := b.Cursor()
		step, k, v := cur.Next, []byte(nil), []byte(nil)
		if p.forward {
			k, v = cur.First()
		} else {
			step = cur.Prev
			k, v = cur.Last()
		}
		bound, room := key{^uint64(0), ^uint64(0)}, tx.Size()/keyBytes
		for ; k != nil && room > 0; k, v = step() {
			room-- // it has no more keys than it has room for: then it goes round in circles, among damaged ones
			at, err := parseKey(k)
			if err != nil {
				return err
			}
			r, err := parseRecord(append([]byte(nil), v...))
			if err != nil || r.key != at || r.class.stream() != p.stream {
				continue // its key may be damaged, and tells neither pass how far it got
			}
			if p.forward && !last.less(at) || !p.forward && (!last.less(at) || !at.less(bound)) {
				return nil // where the other pass was, or round in circles
			}
			if p.forward {
				*last = at
			} else {
				bound = at
			}
			if r.seq <= p.acked[lane{p.stream, r.epoch}] {
				continue
			}
			e.put = append(e.put, r)
			if size += r.bytes(); size >= txBytes && !flush() {
				return fail
			}
		}
		return nil
	})
	if fail == nil {
		flush()
	}
	return fail
}
