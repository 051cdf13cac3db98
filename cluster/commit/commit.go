// Package commit lets many writers of one bbolt database share a transaction, and so one fsync. Unlike bbolt's own
// Batch it never waits for company: whoever comes while nothing is being written begins at once, whoever comes
// meanwhile goes with the next transaction. It needs no goroutine of its own.
package commit

import (
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"
)

// maxOps bounds one transaction, so that the first of a crowd does not wait for all of it.
const maxOps = 1024

// errAbandoned is what the company of a change gets that panicked.
var errAbandoned = errors.New("transaction abandoned")

// Group is safe for concurrent use.
type Group struct {
	db *bbolt.DB

	mu      sync.Mutex
	pending []*op
	busy    bool // somebody leads
	commits uint64
	ops     uint64
}

type op struct {
	fn    func(*bbolt.Tx) error
	after func()
	err   error
	woken chan bool // true: lead the next transaction; false: done
}

// New returns a group for db, which it never closes.
func New(db *bbolt.DB) *Group { return &Group{db: db} }

// Do runs fn in a transaction shared with others and returns once that is on disk. fn sees what those before it in the
// same transaction wrote; it may run more than once and must then begin anew. When it fails only its own change is
// given up. after, which may be nil, runs after the commit and before any later transaction begins: in the order of the
// commits, never two at a time.
func (g *Group) Do(fn func(*bbolt.Tx) error, after func()) error {
	o := &op{fn: fn, after: after, woken: make(chan bool, 1)}
	g.mu.Lock()
	g.pending = append(g.pending, o)
	lead := !g.busy
	g.busy = true
	g.mu.Unlock()
	if lead || <-o.woken {
		g.lead()
	}
	return o.err
}

// Stats returns the number of transactions and of changes in them.
func (g *Group) Stats() (commits, ops uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.commits, g.ops
}

// lead writes what is pending, of which the caller's op is the first, and hands on.
func (g *Group) lead() {
	g.mu.Lock()
	n := min(len(g.pending), maxOps)
	batch := g.pending[:n:n]
	g.pending = append([]*op(nil), g.pending[n:]...)
	g.mu.Unlock()

	whole := false
	defer func() {
		for _, o := range batch[1:] {
			if !whole && o.err == nil {
				o.err = errAbandoned
			}
			o.woken <- false
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.commits++
		g.ops += uint64(n)
		if len(g.pending) == 0 {
			g.busy = false
			return
		}
		g.pending[0].woken <- true
	}()
	g.write(batch)
	whole = true
}

// write commits batch, without those whose own change fails.
func (g *Group) write(batch []*op) {
	live := append([]*op(nil), batch...)
	for len(live) > 0 {
		failed := -1
		err := g.db.Update(func(tx *bbolt.Tx) error {
			for i, o := range live {
				if err := o.fn(tx); err != nil {
					failed = i
					return err
				}
			}
			return nil
		})
		if failed >= 0 {
			live[failed].err = err
			live = append(live[:failed], live[failed+1:]...)
			continue
		}
		for _, o := range live {
			if err != nil {
				o.err = fmt.Errorf("commit: %w", err)
			} else if o.after != nil {
				o.after()
			}
		}
		return
	}
}
