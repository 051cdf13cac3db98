package registry

import (
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Stats is what a Registry counted since it was made, and how much it holds.
type Stats struct {
	Nodes      int
	ByPresence map[api.Presence]int

	Stale        uint64 // messages of older sessions, ignored
	EventsDamped uint64 // presence events not told because a node flaps
	EventsLost   uint64 // events given up because the disk refused for long

	Events        int    // stored
	EventsDropped uint64 // by the retention bounds

	Commits, Writes uint64 // transactions, and changes in them
	Watchers        int    // of nodes and events
	WatchersDropped uint64 // closed because they fell behind
}

// Stats returns the numbers of now.
func (r *Registry) Stats() Stats {
	r.mu.RLock()
	s := r.stats
	s.ByPresence = make(map[api.Presence]int)
	for _, n := range r.nodes {
		s.ByPresence[n.row.Standing.Presence]++
	}
	s.Nodes = len(r.nodes)
	r.mu.RUnlock()
	r.events.mu.Lock()
	s.Events, s.EventsDropped = r.events.stored, r.events.dropped
	r.events.mu.Unlock()
	s.Commits, s.Writes = r.group.Stats()
	w1, slow1 := r.nodesIn.Stats()
	w2, slow2 := r.events.feed.Stats()
	s.Watchers, s.WatchersDropped = w1+w2, slow1+slow2
	return s
}

// Count is how many nodes there are.
func (r *Registry) Count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.nodes)
}

// raise lifts v to t if it is later.
func raise(v *atomic.Int64, t time.Time) {
	for at := t.UnixMilli(); ; {
		now := v.Load()
		if at <= now || v.CompareAndSwap(now, at) {
			return
		}
	}
}
