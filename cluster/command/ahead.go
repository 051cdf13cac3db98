package command

import (
	"context"
	"runtime"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// sendAhead sends a safe command to its connected node before it is journalled, so that the node works while the disk
// does: what has no effect may be lost in a crash together with its record. It returns the session that the command went
// to, 0 when it did not go out; the caller then journals it and calls done. Until then its statuses wait in OnStatus.
// When other commands wait for the node, it is left to their courier, which keeps the order.
func (j *Journal) sendAhead(ctx context.Context, o *Order, now time.Time) (session uint64, done func()) {
	j.mu.Lock()
	epoch, up := j.links[o.Node]
	_, twice := j.ahead[o.ID]
	_, due := j.dirty[o.Node]
	_, busy := j.busy[o.Node]
	if !up || twice || due || busy {
		j.mu.Unlock()
		return 0, func() {}
	}
	journalled := make(chan struct{})
	j.ahead[o.ID] = journalled
	j.stats.Deliveries++
	j.mu.Unlock()
	done = func() {
		j.mu.Lock()
		delete(j.ahead, o.ID)
		j.mu.Unlock()
		close(journalled)
	}
	limit, cancel := context.WithTimeout(ctx, deliverWithin)
	defer cancel()
	err := j.cfg.Deliverer.Deliver(limit, o.Node, epoch, &api.Command{ID: o.ID, Node: o.Node, Epoch: epoch, Verb: o.Verb,
		Args: o.Args, By: o.By, Issued: api.At(now), Deadline: api.At(o.Deadline)})
	if err != nil { // it goes the usual way, once it is journalled
		j.mu.Lock()
		j.stats.DeliveryErrors++
		j.mu.Unlock()
		j.cfg.Log.Debug("command not sent ahead", agent.KeyCommand, o.ID, agent.KeyNode, o.Node, agent.KeyErr, err)
		epoch = 0
	}
	runtime.Gosched() // to whoever writes it to the socket, before this goroutine waits for the disk
	return epoch, done
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

// awaitJournalled returns when id, if it was sent ahead, has been journalled or given up.
func (j *Journal) awaitJournalled(id string) {
	j.mu.Lock()
	journalled := j.ahead[id]
	j.mu.Unlock()
	if journalled != nil {
		<-journalled // Submit closes it whatever happens, after one transaction
	}
}
