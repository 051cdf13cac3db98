package swarm

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// schedule has every node measure at its cadence, each at a phase of its own: one timer instead of one for each node.
type schedule struct {
	mu    sync.Mutex
	due   dues
	wake  chan struct{}
	every time.Duration
}

type due struct {
	at   time.Time
	node *node
}

// dues is a heap.
type dues []due

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d dues) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(x any)        { *d = append(*d, x.(due)) }
func (d *dues) Pop() any {
	old := *d
	last := old[len(old)-1]
	*d = old[:len(old)-1]
	return last
}

// add has n measure from now on.
func (s *schedule) add(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	heap.Push(&s.due, due{time.Now().Add(rand.N(s.every)), n})
	select {
	case s.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// stop has nobody measure any more.
func (s *schedule) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = nil
}

// next returns what is due, and how long until more is.
func (s *schedule) next(now time.Time) (list []*node, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.due) > 0 && !s.due[0].at.After(now) {
		first := &s.due[0]
		list = append(list, first.node)
		if first.at = first.at.Add(s.every); first.at.Before(now) { // we are late: rows are left out, not crowded
			first.at = now.Add(s.every)
		}
		heap.Fix(&s.due, 0)
	}
	if len(s.due) == 0 {
		return list, time.Hour
	}
	return list, s.due[0].at.Sub(now)
}

// measurers is how many nodes measure at once: an outbox that writes to disk holds up only its own.
const measurers = 4

// Run works until ctx ends.
func (s *schedule) Run(ctx context.Context) {
	work := make(chan *node, 256)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(work)
	for range measurers {
		wg.Go(func() {
			for n := range work {
				n.measure(time.Now())
			}
		})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		list, wait := s.next(time.Now())
		for _, n := range list {
			work <- n // the measurers never end before
		}
		timer.Reset(wait)
	}
}
