package command

import (
	"cmp"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// maxLoose bounds the final statuses of commands that never came into the journal.
const maxLoose = 256

// mendEvery is how often an end that is held back is tried to be journalled.
const mendEvery = 2 * time.Second

// looseEnd is a final status that could not be journalled, or need not be because the command was safe. It lives until it
// is in the journal, or, when the journal has never heard of the command and the command was safe, until it is acknowledged.
type looseEnd struct {
	number uint64 // in the journal, where the command is still open; 0: the journal has never heard of it
	safe   bool
	begun  bool // it was told, or may have been, that its action began
	rec    *record
	status *api.Status
	cause  error // why it is not in the journal
	acked  bool
}

// held reports whether nobody may be told of l yet: the journal says that its command is open, so the next life of the agent
// would come to another end, were this one to end first. What was told is never taken back.
func (l *looseEnd) held() bool { return l.number != 0 }

// waiting is what is told of an end that is held back.
func (l *looseEnd) waiting() *api.Status {
	phase := api.PhaseAccepted
	if l.begun {
		phase = api.PhaseRunning
	}
	return &api.Status{ID: l.status.ID, Phase: phase, Epoch: l.status.Epoch, At: l.status.At,
		Progress: clip(fmt.Sprintf("%s; that waits to be journalled: %s", l.status.Phase, l.cause), api.MaxReasonBytes)}
}

// loosen keeps l in memory. When there are too many, the oldest that is acknowledged goes; when there is none such, l is only
// sent, once. What is held back has room always: there are no more than the journal has commands. mu is held.
func (e *Engine) loosen(l *looseEnd) {
	if !l.held() && len(e.loose) >= maxLoose && !e.forgetLoose() {
		e.sender.pass(l.status)
		return
	}
	e.loose[l.rec.Command.ID] = l
	if l.held() {
		e.sender.pass(l.waiting())
		e.nudge()
	}
}

// forgetLoose drops the oldest end that the journal has never heard of and that is acknowledged. mu is held.
func (e *Engine) forgetLoose() bool {
	var oldest *looseEnd
	for _, l := range e.loose {
		if l.acked && !l.held() && (oldest == nil || l.status.At < oldest.status.At) {
			oldest = l
		}
	}
	if oldest != nil {
		delete(e.loose, oldest.rec.Command.ID)
	}
	return oldest != nil
}

// mendSoon tries to journal ends that are held back, not more often than mendEvery, and returns when to come again.
func (e *Engine) mendSoon(now time.Time) time.Duration {
	if !e.holds() {
		return longWait
	}
	if wait := mendEvery - now.Sub(e.mended); wait > 0 {
		return wait
	}
	e.mended = now
	e.mend()
	if e.holds() {
		return mendEvery
	}
	return longWait
}

func (e *Engine) holds() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.loose {
		if l.held() {
			return true
		}
	}
	return false
}

// mend tries to journal what could not be journalled, and tells of what was held back for that.
func (e *Engine) mend() {
	e.mu.Lock()
	ends := make([]*looseEnd, 0, len(e.loose))
	for _, l := range e.loose {
		ends = append(ends, l)
	}
	e.mu.Unlock()
	agent.Order(ends, func(a, b *looseEnd) int { // a journal that is full still takes the ends of what it has
		switch {
		case a.held() == b.held():
			return cmp.Compare(a.status.At, b.status.At)
		case a.held():
			return -1
		}
		return 1
	})
	for _, l := range ends {
		rec := *l.rec
		if _, err := e.journal.keep(l.number, &rec, l.status, e.cfg.Clock.Cluster()); err != nil {
			e.cfg.Log.Debug("command still not journalled", agent.KeyCommand, rec.Command.ID, agent.KeyErr, err)
			return // the others fare no better
		}
		e.mu.Lock()
		if l.acked {
			e.journal.ack([]string{rec.Command.ID})
		}
		if e.loose[rec.Command.ID] == l {
			delete(e.loose, rec.Command.ID)
		}
		e.mu.Unlock()
		if l.held() {
			e.sender.final(rec.Command.ID)
		}
	}
}
