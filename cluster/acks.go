package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/telemetry"
	"github.com/skerry-edge/skerry/mqtt"
)

// acks tells each node what it may forget: batches once the telemetry store's log has been synced beyond them, events
// and final statuses, which were on disk before they were noted; and to wait when telemetry cannot be stored. Acks of a node are gathered for ackEvery.
type acks struct {
	agent *Agent
	now   func() time.Time // the cluster agent's
	wake  chan struct{}

	mu    sync.Mutex
	nodes map[string]*nodeAcks
	dirty map[string]struct{}
}

// nodeAcks is what is known and owed of one node.
type nodeAcks struct {
	batches     telemetry.Watermark
	owedBatches map[uint64]owed   // by epoch
	owedEvents  map[uint64]uint64 // by epoch: the watermark
	commands    bool
	pause       bool
	crowd       time.Duration // to be told; 0: nothing
}

// owed is a watermark that may be told once the store has synced up to pos.
type owed struct{ seq, pos uint64 }

// ackEvery gathers what a node is owed: few enough messages, and far below a node's patience.
const ackEvery = 200 * time.Millisecond

func newAcks(a *Agent, now func() time.Time) *acks {
	return &acks{agent: a, now: now, wake: make(chan struct{}, 1), nodes: map[string]*nodeAcks{}, dirty: map[string]struct{}{}}
}

// of returns the state of a node and marks it; k.mu is held.
func (k *acks) of(node string) *nodeAcks {
	n := k.nodes[node]
	if n == nil {
		n = &nodeAcks{owedBatches: map[uint64]owed{}, owedEvents: map[uint64]uint64{}}
		k.nodes[node] = n
	}
	k.dirty[node] = struct{}{}
	select {
	case k.wake <- struct{}{}:
	default: // it is awake
	}
	return n
}

// batch notes a batch that is in the store's log at pos. A batch that does not join the chain is stored, and not
// acknowledged before what lies between has come.
func (k *acks) batch(node string, b *api.Batch, pos uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.of(node)
	if mark, ok := n.batches.Accept(b.Epoch, b.Seq, b.Prev); ok {
		n.owedBatches[b.Epoch] = owed{mark, max(pos, n.owedBatches[b.Epoch].pos)}
	}
}

// event notes up to where the events of a session are on disk.
func (k *acks) event(node string, epoch, mark uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if mark > 0 {
		k.of(node).owedEvents[epoch] = mark
	}
}

// commands notes that the journal has final statuses to acknowledge.
func (k *acks) commands(node string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of(node).commands = true
}

// pause has the node hold its telemetry back.
func (k *acks) pause(node string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of(node).pause = true
}

// crowd tells a node that begins a session how long the site takes to come back.
func (k *acks) crowd(node string) {
	d := k.agent.crowd()
	if d == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of(node).crowd = d
}

// reset forgets what was owed in an older session; the node sends again what is not acknowledged.
func (k *acks) reset(node string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.nodes, node)
	delete(k.dirty, node)
}

// synced is called by the telemetry store after each sync.
func (k *acks) synced(uint64) {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run sends acks until ctx ends.
func (k *acks) Run(ctx context.Context) error {
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		}
		select { // gather
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, due := range k.due(k.agent.telemetry.SyncedTo()) {
			k.send(ctx, due.node, due.ack)
		}
	}
}

type dueAck struct {
	node string
	ack  *api.Ack
}

// due takes out what may be told, now that the store has synced up to pos.
func (k *acks) due(pos uint64) []dueAck {
	now := api.At(k.now())
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []dueAck
	for node := range k.dirty {
		n := k.nodes[node]
		waiting := false
		byEpoch := map[uint64]*api.Ack{}
		at := func(epoch uint64) *api.Ack {
			if byEpoch[epoch] == nil {
				byEpoch[epoch] = &api.Ack{Epoch: epoch, Time: now}
			}
			return byEpoch[epoch]
		}
		for epoch, o := range n.owedBatches {
			if o.pos > pos {
				waiting = true
				continue
			}
			at(epoch).Seq = o.seq
			delete(n.owedBatches, epoch)
		}
		for epoch, seq := range n.owedEvents {
			at(epoch).Events = seq
			delete(n.owedEvents, epoch)
		}
		if n.commands {
			n.commands = false
			out = append(out, dueAck{node, &api.Ack{Commands: k.agent.journal.Acks(node), Time: now}})
		}
		if n.pause {
			n.pause = false
			out = append(out, dueAck{node, &api.Ack{Time: now, PauseMillis: pauseFor.Milliseconds()}})
		}
		if n.crowd > 0 {
			out = append(out, dueAck{node, &api.Ack{Time: now, RetryMillis: n.crowd.Milliseconds()}})
			n.crowd = 0
		}
		for _, ack := range byEpoch {
			out = append(out, dueAck{node, ack})
		}
		if !waiting {
			delete(k.dirty, node)
		}
	}
	return out
}

// send publishes an ack. One that is lost is made up for: the node sends again what it does not know to be safe.
func (k *acks) send(ctx context.Context, node string, ack *api.Ack) {
	payload, err := k.agent.codec.Encode(mqtt.JSON, ack)
	if err == nil {
		err = k.agent.wire.Publish(ctx, k.agent.topics.Of(mqtt.KindAck, node, ""), payload, false)
	}
	if err != nil && ctx.Err() == nil {
		k.agent.log.Debug("ack not sent", agent.KeyNode, node, agent.KeyErr, err)
	}
}
