package command

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

const (
	longestSleep = time.Minute // so that a step of the wall clock is noticed
	retireEvery  = time.Hour
	retryAfter   = time.Second // when the disk refused
	duePerLook   = 1000
)

// Run loads the journal if that has not happened, then delivers, closes at deadline + grace and drops old records until
// ctx ends.
func (j *Journal) Run(ctx context.Context) error {
	if err := j.Load(); err != nil {
		return err
	}
	var couriers sync.WaitGroup
	defer couriers.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-j.wake:
		}
		more := j.look()
		j.dispatch(ctx, &couriers)
		if more {
			j.poke()
		}
		timer.Reset(j.sleep())
	}
}

// look does what is due by now, at most duePerLook things, and reports whether there may be more.
func (j *Journal) look() (more bool) {
	now := j.cfg.Now()
	var closing []string
	retiring := false
	j.mu.Lock()
	keys := j.plan.Due(now, duePerLook)
	for _, key := range keys {
		switch id := key[1:]; key[:1] {
		case closeKey:
			closing = append(closing, id)
		case deliverKey:
			if o := j.open[id]; o != nil {
				o.due = true
				j.dirty[o.Node] = struct{}{}
			}
		case retireKey:
			retiring = true
		}
	}
	j.mu.Unlock()
	if len(closing) > 0 {
		j.close(closing)
	}
	if retiring {
		j.retire(now)
	}
	return len(keys) == duePerLook
}

// dispatch gives each node with something due to a courier, one at a time per node, as far as there are couriers.
func (j *Journal) dispatch(ctx context.Context, couriers *sync.WaitGroup) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for node := range j.dirty {
		if len(j.busy) >= j.cfg.Deliveries {
			return // the next courier to finish pokes
		}
		if _, busy := j.busy[node]; busy {
			continue // looked at again when its courier is done
		}
		j.busy[node] = struct{}{}
		delete(j.dirty, node)
		couriers.Go(func() {
			j.serve(ctx, node)
			j.mu.Lock()
			delete(j.busy, node)
			j.mu.Unlock()
			j.poke()
		})
	}
}

// sleep is how long Run may wait for the next thing.
func (j *Journal) sleep() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, ok := j.plan.Next()
	if !ok {
		return longestSleep
	}
	return min(max(at.Sub(j.cfg.Now()), 0), longestSleep)
}

// close ends ids, whose deadline and grace have passed, unless they have ended.
func (j *Journal) close(ids []string) {
	now := api.At(j.cfg.Now())
	var closed []entry
	err := j.group.Do(func(tx *bbolt.Tx) error {
		closed = closed[:0]
		for _, id := range ids {
			e, found, err := load(tx, id)
			if err != nil {
				return err
			}
			if !found || e.Final {
				continue
			}
			e.expire(now, j.cfg.Grace)
			if err := save(tx, &e); err != nil {
				return err
			}
			closed = append(closed, e)
		}
		return nil
	}, func() {
		for i := range closed {
			j.settle(&closed[i], advanced)
		}
	})
	if err == nil {
		return
	}
	j.cfg.Log.Error("commands past their deadline not closed, will try again", agent.KeyCount, len(ids), agent.KeyErr, err)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range ids {
		if j.open[id] != nil {
			j.planFor(closeKey+id, j.cfg.Now().Add(retryAfter))
		}
	}
}

// retire applies the retention policy, a piece at a time, and plans the next time.
func (j *Journal) retire(now time.Time) {
	j.mu.Lock()
	excess := j.finals - j.cfg.KeepFinals
	j.mu.Unlock()
	dropped := 0
	err := j.group.Do(func(tx *bbolt.Tx) (err error) {
		dropped, err = retire(tx, excess, now.Add(-j.cfg.KeepFor))
		return err
	}, nil)
	wait := retireEvery
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.finals -= dropped
		j.stats.Retired += uint64(dropped)
	} else {
		j.cfg.Log.Error("old commands not dropped", agent.KeyErr, err)
	}
	if err == nil && dropped == retirePerTx {
		wait = 0
	}
	j.planFor(retireKey, now.Add(wait))
}
