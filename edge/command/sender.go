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

// Out carries a status to the cluster agent, and leaves s as it is: the engine reads it meanwhile. An error means that it may
// not have arrived.
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
	ctx      context.Context // of the sends; nil before open
	active   int             // goroutines that send: none while there is nothing to send
	closing  bool            // nothing is begun any more once they have ended
	idle     chan struct{}   // closed when closing and none is active

	dropped atomic.Uint64
}

func newSender(out Out, log *slog.Logger, stored func(string) (*api.Status, error)) *sender {
	return &sender{out: out, log: log, stored: stored, finals: map[string]bool{}, busy: map[string]bool{},
		idle: make(chan struct{})}
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

// poke has one more goroutine send, unless enough do. mu is held.
func (s *sender) poke() {
	if s.ctx == nil || s.active == senders || s.closing && s.active == 0 {
		return
	}
	s.active++
	go s.run(s.ctx) // close waits for it
}

// open begins to send, until ctx ends.
func (s *sender) open(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx = ctx
	for range min(senders, len(s.queue)) {
		s.poke()
	}
}

// run sends until there is nothing that it could send, or ctx ends.
func (s *sender) run(ctx context.Context) {
	for {
		it, ok := s.take(ctx)
		if !ok {
			return
		}
		s.done(it, s.send(ctx, it))
	}
}

// close waits until all is sent that can be, or the context of open has ended. Nothing is sent after it.
func (s *sender) close() {
	s.mu.Lock()
	s.closing = true
	if s.active == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	<-s.idle
}

// take returns the first item whose command has nothing under way. Without one the caller's goroutine ends: whoever adds
// an item, or is done with the command that it waits for, sees to the rest.
func (s *sender) take(ctx context.Context) (it item, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, it := range s.queue {
		if ctx.Err() != nil {
			break
		}
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
		return it, true
	}
	if s.active--; s.active == 0 && s.closing {
		close(s.idle)
	}
	return item{}, false
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
