package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
)

const (
	flushEvery  = time.Minute
	sweepEvery  = time.Hour
	dueAtOnce   = 1000 // decisions between two looks at ctx
	flushPerTx  = 2000
	firstRetry  = time.Second
	longestWait = time.Minute // so that a step of the wall clock is noticed
)

// Run loads the registry if that has not happened, then decides what comes due, writes what waits and drops what is
// old, until ctx ends; it writes a last time then.
func (r *Registry) Run(ctx context.Context) error {
	if err := r.Load(); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	flushAt, sweepAt := r.cfg.Now().Add(flushEvery), r.cfg.Now()
	for {
		select {
		case <-ctx.Done():
			return r.flush()
		case <-timer.C:
		case <-r.wake:
		}
		now := r.cfg.Now()
		more := r.look(now)
		if !now.Before(flushAt) {
			flushAt = now.Add(flushEvery)
			if err := r.flush(); err != nil {
				flushAt = now.Add(firstRetry)
				r.cfg.Log.Error("registry not written, will try again", agent.KeyErr, err)
			}
		}
		if !now.Before(sweepAt) {
			sweepAt = now.Add(sweepEvery)
			if err := r.sweep(now); err != nil {
				r.cfg.Log.Error("old entries of the registry not dropped", agent.KeyErr, err)
			}
		}
		if more {
			r.poke()
		}
		timer.Reset(r.sleep(earliest(flushAt, sweepAt)))
	}
}

// look decides what is due by now, and reports whether there may be more.
func (r *Registry) look(now time.Time) (more bool) {
	r.mu.Lock()
	due := r.plan.Due(now, dueAtOnce)
	var changed []string
	for _, id := range due {
		if n := r.nodes[id]; n != nil && !n.removed {
			if r.decide(n, now); n.version > n.durable {
				changed = append(changed, id)
			}
		}
	}
	r.mu.Unlock()
	if len(changed) > 0 {
		if err := r.persist(changed...); err != nil { // flush tries again
			r.cfg.Log.Error("presence not written, will try again", agent.KeyCount, len(changed), agent.KeyErr, err)
		}
	}
	return len(due) == dueAtOnce
}

// sleep is how long Run may wait.
func (r *Registry) sleep(until time.Time) time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if next, ok := r.plan.Next(); ok {
		until = earliest(until, next)
	}
	return min(max(until.Sub(r.cfg.Now()), 0), longestWait)
}

// flush writes when nodes were last seen, for how long the cluster agent attended, and every node that a write failed
// for.
func (r *Registry) flush() error {
	ids, seen := r.unwritten()
	var errs []error
	for len(ids) > 0 {
		n := min(len(ids), flushPerTx)
		errs = append(errs, r.persist(ids[:n]...))
		ids = ids[n:]
	}
	r.mu.RLock()
	attended := r.selfNow(r.cfg.Now()).Attended
	r.mu.RUnlock()
	err := r.group.Do(func(tx *bbolt.Tx) error {
		for id, at := range seen {
			if tx.Bucket([]byte(bucketNode)).Get([]byte(id)) == nil {
				continue // removed meanwhile
			}
			if err := tx.Bucket([]byte(bucketSeen)).Put([]byte(id), binary.BigEndian.AppendUint64(nil, uint64(at))); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(bucketMeta)).Put(keyAttended, binary.BigEndian.AppendUint64(nil, uint64(attended)))
	}, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for id, at := range seen {
			if n := r.nodes[id]; n != nil {
				n.seenFlushed = at
			}
		}
	})
	return errors.Join(append(errs, err)...)
}

// unwritten lists the nodes that are not on disk as they are in memory, and the times of last seen that are not.
func (r *Registry) unwritten() (ids []string, seen map[string]int64) {
	seen = make(map[string]int64)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for id, n := range r.nodes {
		if n.version > n.durable {
			ids = append(ids, id)
		}
		if at := n.seen.Load(); at != n.seenFlushed {
			seen[id] = at
		}
	}
	return ids, seen
}

// sweep drops old events and tombstones.
func (r *Registry) sweep(now time.Time) error {
	dropped := 0
	return r.group.Do(func(tx *bbolt.Tx) (err error) {
		if err := sweepTombstones(tx, now); err != nil {
			return err
		}
		dropped, err = r.events.trim(tx.Bucket([]byte(bucketEvent)), now, 10*flushPerTx)
		return err
	}, func() { r.events.settle(&appended{dropped: dropped}) })
}
