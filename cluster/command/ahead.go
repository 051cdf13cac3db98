package command

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// holdFor is how long a safe command that was sent ahead waits for its answer, so that one transaction journals both. Only
// a node whose last answer came within it is waited for.
const holdFor = 5 * time.Millisecond

// early is a safe command that was sent before it is journalled. Whoever claims it first journals it: Submit, or OnStatus
// together with what the node says. All but the result is guarded by Journal.mu.
type early struct {
	order   *Order
	created api.Millis
	session uint64        // that it goes to
	claimed bool          // somebody journals it
	taken   chan struct{} // closed when that is OnStatus

	journalled chan struct{} // closed when it is journalled or given up; then there is a result
	entry      entry
	fresh      bool
	err        error
}

// enterSafe sends a safe command to its connected node before it is journalled, so that the node works while the disk
// does: what has no effect may be lost in a crash together with its record. It is on disk when enterSafe returns, unless ctx
// ended before: then it may yet be. When
// other commands wait for the node, it is left to their courier, which keeps the order.
func (j *Journal) enterSafe(ctx context.Context, o *Order, now time.Time) (e entry, fresh bool, err error) {
	a, hold := j.sendAhead(ctx, o, now)
	if a == nil {
		return j.insert(o, api.At(now), 0, nil)
	}
	if hold {
		j.awaitAnswer(ctx, a)
	}
	if j.claim(a) {
		j.journal(a, nil)
	}
	select {
	case <-a.journalled: // whoever claimed it closes it whatever happens, after one transaction
		return a.entry, a.fresh, a.err
	case <-ctx.Done():
		return entry{}, false, fmt.Errorf("it was sent and is being journalled, ask for it by its id: %w", context.Cause(ctx))
	}
}

// sendAhead sends o if it may go ahead, and reports whether its node is known to answer within holdFor.
func (j *Journal) sendAhead(ctx context.Context, o *Order, now time.Time) (a *early, hold bool) {
	j.mu.Lock()
	epoch, up := j.links[o.Node]
	_, twice := j.ahead[o.ID]
	_, due := j.dirty[o.Node]
	_, busy := j.busy[o.Node]
	if !up || twice || due || busy {
		j.mu.Unlock()
		return nil, false
	}
	a = &early{order: o, created: api.At(now), session: epoch, taken: make(chan struct{}), journalled: make(chan struct{})}
	j.ahead[o.ID] = a
	_, hold = j.swift[o.Node]
	j.stats.Deliveries++
	j.mu.Unlock()
	limit, cancel := context.WithTimeout(ctx, deliverWithin)
	defer cancel()
	err := j.cfg.Deliverer.Deliver(limit, o.Node, epoch, &api.Command{ID: o.ID, Node: o.Node, Epoch: epoch, Verb: o.Verb,
		Args: o.Args, By: o.By, Issued: api.At(now), Created: api.At(now), Deadline: api.At(o.Deadline)})
	if err != nil { // it goes the usual way, once it is journalled
		j.mu.Lock()
		j.stats.DeliveryErrors++
		a.session, hold = 0, false
		j.mu.Unlock()
		j.cfg.Log.Debug("command not sent ahead", agent.KeyCommand, o.ID, agent.KeyNode, o.Node, agent.KeyErr, err)
	}
	if !hold {
		runtime.Gosched() // to whoever writes it to the socket, before this goroutine waits for the disk
	}
	return a, hold
}

// awaitAnswer waits until the node answers a, holdFor at most. A node that does not is not waited for the next time.
func (j *Journal) awaitAnswer(ctx context.Context, a *early) {
	limit := time.NewTimer(holdFor)
	defer limit.Stop()
	select {
	case <-a.taken:
	case <-ctx.Done():
	case <-limit.C:
		j.mu.Lock()
		delete(j.swift, a.order.Node)
		j.mu.Unlock()
	}
}

// claim reports whether the caller is the one who journals a.
func (j *Journal) claim(a *early) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	mine := !a.claimed
	a.claimed = true
	return mine
}

// journal writes a, which the caller has claimed, with the status s of its node unless that is nil.
func (j *Journal) journal(a *early, s *api.Status) {
	defer func() {
		j.mu.Lock()
		delete(j.ahead, a.order.ID)
		j.mu.Unlock()
		close(a.journalled)
	}()
	j.mu.Lock()
	session := a.session
	j.mu.Unlock()
	a.entry, a.fresh, a.err = j.insert(a.order, a.created, session, s)
}

// answered takes what node says of a command that was sent ahead and is not journalled yet, and reports whether it is
// journalled now, s with it. Else it returns when the command is journalled without s, or given up: after one
// transaction at most.
func (j *Journal) answered(node string, s *api.Status) bool {
	j.mu.Lock()
	a := j.ahead[s.ID]
	if a == nil {
		j.mu.Unlock()
		return false
	}
	if a.claimed || a.order.Node != node {
		j.mu.Unlock()
		<-a.journalled
		return false
	}
	a.claimed = true
	close(a.taken)
	j.mu.Unlock()
	j.journal(a, s)
	return a.err == nil && a.fresh && a.entry.Status == s
}

// sentTo plans the next delivery of e, which was sent ahead to session; false when it was not, or the node has begun
// another session since.
func (j *Journal) sentTo(session uint64, e *entry) bool {
	j.mu.Lock()
	o := j.open[e.ID]
	ok := session > 0 && o != nil && j.links[e.Node] == session
	if ok {
		o.attempt = 1
	}
	j.mu.Unlock()
	if ok {
		j.again(e)
	}
	return ok
}

// timed notes that the node of e answers fast enough to be waited for, when it moved e on within holdFor.
func (j *Journal) timed(e *entry, now api.Millis) {
	if now-e.Created <= api.Millis(holdFor.Milliseconds()) {
		j.mu.Lock()
		if _, up := j.links[e.Node]; up {
			j.swift[e.Node] = struct{}{}
		}
		j.mu.Unlock()
	}
}
