// Package schedule remembers when to look at what: a heap of keys by time, so that any number of deadlines needs one
// timer.
package schedule

import (
	"container/heap"
	"time"
)

// Schedule holds at most one time for each key. The zero value is empty and ready. Not for concurrent use.
type Schedule struct {
	entries entries
	byKey   map[string]*entry
}

type entry struct {
	key   string
	at    time.Time
	index int
}

// Set has key come due at at, instead of when it was to before.
func (s *Schedule) Set(key string, at time.Time) {
	if e := s.byKey[key]; e != nil {
		e.at = at
		heap.Fix(&s.entries, e.index)
		return
	}
	if s.byKey == nil {
		s.byKey = make(map[string]*entry)
	}
	e := &entry{key: key, at: at}
	s.byKey[key] = e
	heap.Push(&s.entries, e)
}

// Remove forgets key.
func (s *Schedule) Remove(key string) {
	if e := s.byKey[key]; e != nil {
		heap.Remove(&s.entries, e.index)
		delete(s.byKey, key)
	}
}

// Next is when the first key comes due; false when there is none.
func (s *Schedule) Next() (time.Time, bool) {
	if len(s.entries) == 0 {
		return time.Time{}, false
	}
	return s.entries[0].at, true
}

// Due takes out and returns up to limit keys whose time is not after now, the earliest first.
func (s *Schedule) Due(now time.Time, limit int) []string {
	var keys []string
	for len(s.entries) > 0 && len(keys) < limit && !s.entries[0].at.After(now) {
		e := s.entries[0]
		heap.Pop(&s.entries)
		delete(s.byKey, e.key)
		keys = append(keys, e.key)
	}
	return keys
}

// Len is the number of keys.
func (s *Schedule) Len() int { return len(s.entries) }

// entries implements heap.Interface.
type entries []*entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *entries) Push(x any) {
	e, ok := x.(*entry)
	if !ok {
		return // heap.Push is only called above, with an *entry
	}
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *entries) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
