package command

import (
	"context"
	"hash/fnv"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// The spacing of deliveries while no sign of acceptance comes: the n-th wait is about redeliverFirst·2ⁿ.
const (
	redeliverFirst = 5 * time.Second
	redeliverMax   = time.Minute
)

// OnNodeUp is called when node has begun the session epoch, with the commands that it says it has open. Everything open
// that it has not accepted is delivered (again), signed for this session. What it has accepted is delivered again only
// when openOnNode lists it, to hear how it stands: a node that no longer knows an accepted command must not run it a
// second time. An epoch older than the current one is ignored.
func (j *Journal) OnNodeUp(node string, epoch uint64, openOnNode []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if epoch < j.links[node] {
		return
	}
	j.links[node] = epoch
	for id, o := range j.byNode[node] {
		o.attempt = 0
		o.due = o.unaccepted() || slices.Contains(openOnNode, id)
		if o.due {
			j.dirty[node] = struct{}{}
		}
	}
	j.poke()
}

// OnNodeDown is called when the session epoch of node has ended; 0 means whichever it is. The end of an older session
// than the current one is ignored.
func (j *Journal) OnNodeDown(node string, epoch uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if epoch == 0 || epoch >= j.links[node] {
		delete(j.links, node)
		delete(j.swift, node)
	}
}

// link returns the session of node, if it is connected.
func (j *Journal) link(node string) (epoch uint64, up bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	epoch, up = j.links[node]
	return epoch, up
}

// unaccepted reports whether the command is one to deliver until the node takes it.
func (o *openCommand) unaccepted() bool {
	return !o.Halted && (o.Phase == api.PhaseQueued || o.Phase == api.PhaseDelivered)
}

// offer has e delivered if its node is connected.
func (j *Journal) offer(e *entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o, up := j.open[e.ID], false
	if o != nil {
		_, up = j.links[e.Node]
	}
	if up {
		o.due = true
		j.dirty[e.Node] = struct{}{}
		j.poke()
	}
}

// serve delivers all that is due to node, in the order of submission.
func (j *Journal) serve(ctx context.Context, node string) {
	epoch, due, queued := j.takeDue(node)
	if len(queued) > 0 {
		if err := j.markDelivered(queued); err != nil {
			if ctx.Err() == nil {
				j.cfg.Log.Error("commands not delivered", agent.KeyNode, node, agent.KeyErr, err)
			}
			due = slices.DeleteFunc(due, func(e entry) bool {
				if e.Phase == api.PhaseQueued {
					j.again(&e)
					return true
				}
				return false
			})
		}
	}
	for i := range due {
		j.deliver(ctx, epoch, due[i].ID)
	}
}

// takeDue returns what is due to node in order, and which of it has to be marked delivered first.
func (j *Journal) takeDue(node string) (epoch uint64, due []entry, queued []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	epoch, up := j.links[node]
	if !up {
		return 0, nil, nil // OnNodeUp starts over
	}
	for _, o := range j.byNode[node] {
		if o.due {
			o.due = false
			due = append(due, o.entry)
		}
	}
	slices.SortFunc(due, func(a, b entry) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
	for i := range due {
		if due[i].Phase == api.PhaseQueued {
			queued = append(queued, due[i].ID)
		}
	}
	return epoch, due, queued
}

// markDelivered journals that ids are about to be sent, in one transaction.
func (j *Journal) markDelivered(ids []string) error {
	now := api.At(j.cfg.Now())
	var marked []entry
	return j.group.Do(func(tx *bbolt.Tx) error {
		marked = marked[:0]
		for _, id := range ids {
			e, found, err := load(tx, id)
			if err != nil {
				return err
			}
			if !found || e.Phase != api.PhaseQueued || e.Deadline <= now {
				continue // cancelled or closed meanwhile
			}
			e.step(api.Transition{Phase: api.PhaseDelivered, At: now, Side: sideCluster}, now)
			if err := save(tx, &e); err != nil {
				return err
			}
			marked = append(marked, e)
		}
		return nil
	}, func() {
		for i := range marked {
			j.settle(&marked[i], advanced)
		}
	})
}

// deliver sends the command id, if it is still one to send.
func (j *Journal) deliver(ctx context.Context, epoch uint64, id string) {
	now := j.cfg.Now()
	j.mu.Lock()
	o := j.open[id]
	if o == nil || o.Halted || o.Phase == api.PhaseQueued || o.Deadline <= api.At(now) || j.links[o.Node] != epoch {
		j.mu.Unlock()
		return
	}
	e := o.entry
	o.attempt++
	j.stats.Deliveries++
	if o.attempt > 1 {
		j.stats.Redeliveries++
	}
	j.mu.Unlock()

	limit, cancel := context.WithTimeout(ctx, deliverWithin)
	defer cancel()
	err := j.cfg.Deliverer.Deliver(limit, e.Node, epoch, &api.Command{ID: e.ID, Node: e.Node, Epoch: epoch, Verb: e.Verb,
		Args: e.Args, By: e.By, Issued: api.At(now), Created: e.Created, Deadline: e.Deadline})
	if err != nil && ctx.Err() == nil {
		j.mu.Lock()
		j.stats.DeliveryErrors++
		j.mu.Unlock()
		j.cfg.Log.Warn("command not delivered, will try again", agent.KeyCommand, e.ID, agent.KeyNode, e.Node, agent.KeyErr, err)
	}
	j.again(&e)
}

// again plans the next delivery of e, for when no sign of acceptance comes.
func (j *Journal) again(e *entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o := j.open[e.ID]
	if o == nil || !o.unaccepted() {
		return
	}
	wait := min(redeliverFirst<<min(max(o.attempt-1, 0), 8), redeliverMax)
	h := fnv.New32a() // spreads commands that were sent to a fleet at one moment
	h.Write([]byte(e.ID))
	wait += wait * time.Duration(h.Sum32()%256) / 1024
	j.planFor(deliverKey+e.ID, j.cfg.Now().Add(wait))
}
