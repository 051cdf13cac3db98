package command

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

const (
	senders      = 4                // statuses under way at once; those of one command never overtake each other
	maxPassing   = 256              // statuses that are not final and wait to be sent
	sendTimeout  = 30 * time.Second // of one status
	giveUpAfter  = 3                // failures in a row after which the final ones wait for the next resend
	finalBacklog = maxJournal + maxLoose
)

// Out carries a status to the cluster agent. An error means that it may not have arrived.
type Out interface {
	SendStatus(ctx context.Context, s *api.Status) error
}

// item is something to be sent: a passing status, or, with none, the final status of id as it is stored.
type item struct {
	id     string
	status *api.Status
}

// sender is the way out. Passing statuses are dropped when they cannot be sent, for a later one says more; final ones
// are in the journal and are queued by id alone.
type sender struct {
	out    Out
	log    *slog.Logger
	stored func(id string) (*api.Status, error)

	mu       sync.Mutex
	queue    []item
	finals   map[string]bool // ids of the final ones in queue
	busy     map[string]bool // ids under way
	passing  int             // how many in queue are not final
	failures int             // in a row
	closing  bool            // run returns when nothing is left

	wake    chan struct{}
	dropped atomic.Uint64
}

func newSender(out Out, log *slog.Logger, stored func(string) (*api.Status, error)) *sender {
	return &sender{out: out, log: log, stored: stored, finals: map[string]bool{}, busy: map[string]bool{},
		wake: make(chan struct{}, senders)}
}

// pass queues a status that is not final, in place of one of the same phase that still waits.
func (s *sender) pass(st *api.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.queue {
		if q := s.queue[i].status; q != nil && q.ID == st.ID && q.Phase == st.Phase {
			s.queue[i].status = st
			return
		}
	}
	if s.passing == maxPassing {
		s.dropped.Add(1)
		return
	}
	s.passing++
	s.queue = append(s.queue, item{st.ID, st})
	s.poke()
}

// final queues the stored final status of id, once.
func (s *sender) final(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finals[id] {
		return
	}
	if len(s.finals) >= finalBacklog {
		s.dropped.Add(1) // it is in the journal: the next resend has it
		return
	}
	s.finals[id] = true
	s.queue = append(s.queue, item{id: id})
	s.poke()
}

func (s *sender) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // all senders are awake
	}
}

// run sends until ctx ends. Several run at once.
func (s *sender) run(ctx context.Context) {
	for {
		it, ok, last := s.take()
		if last {
			return
		}
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
			}
			continue
		}
		err := s.send(ctx, it)
		s.done(it, err)
		if ctx.Err() != nil {
			return
		}
	}
}

// close lets run return once the queue is empty.
func (s *sender) close() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	for range senders {
		s.poke()
	}
}

// take returns the first item whose command has nothing under way, if there is one. last says that there will be none.
func (s *sender) take() (it item, ok, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, it := range s.queue {
		if s.busy[it.id] {
			continue
		}
		s.queue = slices.Delete(s.queue, i, i+1)
		s.busy[it.id] = true
		if it.status != nil {
			s.passing--
		} else {
			delete(s.finals, it.id)
		}
		return it, true, false
	}
	return item{}, false, s.closing
}

func (s *sender) send(ctx context.Context, it item) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	st := it.status
	if st == nil {
		var err error
		if st, err = s.stored(it.id); err != nil {
			return err
		}
		if st == nil { // acknowledged and forgotten since
			return nil
		}
	}
	return s.out.SendStatus(ctx, st)
}

func (s *sender) done(it item, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, it.id)
	if len(s.queue) > 0 {
		s.poke() // what waited for this command, or for a sender
	}
	if err == nil {
		s.failures = 0
		return
	}
	s.failures++
	if it.status != nil {
		s.dropped.Add(1)
	}
	s.log.Debug("command status not sent", agent.KeyCommand, it.id, agent.KeyErr, err)
	if s.failures < giveUpAfter {
		return
	}
	s.failures = 0
	s.queue = slices.DeleteFunc(s.queue, func(it item) bool { return it.status == nil })
	clear(s.finals)
}
