package workload

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

const (
	listWithin = time.Minute     // one listing
	listEvery  = time.Minute     // at least, should a change have been missed
	listRetry  = 5 * time.Second // after one that failed
)

// source is a runtime and what it last told.
type source struct {
	rt    Runtime
	asked atomic.Uint64 // number of the latest listing that somebody waits for
	wake  chan struct{}

	// Of the loop alone.
	have       uint64 // number of the listing in list
	list       []Observed
	known      bool // list is one
	failing    bool
	collecting bool
	unused     bool // images may be there that nobody needs any more
}

func newSource(rt Runtime) *source { return &source{rt: rt, wake: make(chan struct{}, 1)} }

// ask returns the number of the first listing that tells what is so by now.
func (s *source) ask() uint64 {
	n := s.asked.Add(1)
	select {
	case s.wake <- struct{}{}:
	default: // it will look again
	}
	return n
}

// list lists the containers of a runtime whenever something may have changed.
func (e *Engine) list(ctx context.Context, s *source) {
	tick := time.NewTicker(listEvery)
	defer tick.Stop()
	for {
		n := s.asked.Load() // before: what is asked for meanwhile needs another
		lctx, cancel := context.WithTimeout(ctx, listWithin)
		list, err := s.rt.List(lctx)
		cancel()
		e.post(ctx, func() { e.listed(s, n, list, err) })
		if err != nil {
			if !agent.Wait(ctx, listRetry) {
				return
			}
			continue
		}
		if s.asked.Load() != n {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-s.rt.Changes():
		case <-tick.C:
		}
	}
}

// listed takes in a listing.
func (e *Engine) listed(s *source, n uint64, list []Observed, err error) {
	if err != nil {
		if !s.failing {
			e.cfg.Log.Warn("runtime does not list its containers; those that it has are left as they are", keyRuntime, s.rt.Name(), agent.KeyErr, err)
		}
		s.failing = true
		return
	}
	s.failing, s.known, s.have, s.list = false, true, n, list
	for _, en := range e.entries {
		for id, w := range en.busy {
			if w.done && w.runtime == s.rt.Name() && n >= w.need {
				delete(en.busy, id)
			}
		}
	}
}

// seen sorts what is listed by workload.
func (e *Engine) seen() map[string][]Seen {
	out := map[string][]Seen{}
	for name, s := range e.sources {
		for _, o := range s.list {
			if workload, _, _, ok := ParseContainerID(o.ID); ok {
				out[workload] = append(out[workload], Seen{Observed: o, Runtime: name})
			}
		}
	}
	return out
}
