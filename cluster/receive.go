package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/owner"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/cluster/telemetry"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

// receive takes a message from a node or operator. nil means that it is stored as far as it has to be, so that the
// broker may acknowledge it; an error that wraps mqtt.ErrDiscard that it can never be.
func (a *Agent) receive(ctx context.Context, m broker.Inbound) error {
	if m.From.Kind == mqtt.NodeIdentity && !m.Will && !a.repeated(m) {
		a.registry.Seen(m.Topic.Node, a.clock.Now())
	}
	switch m.Topic.Kind {
	case mqtt.KindState:
		return take(a, m, &api.State{}, func(s *api.State) error { return a.onState(m, s) })
	case mqtt.KindBirth:
		return take(a, m, &api.Birth{}, func(b *api.Birth) error { return a.onBirth(ctx, m, b) })
	case mqtt.KindTele:
		return take(a, m, &api.Batch{}, func(b *api.Batch) error { return a.onBatch(ctx, m.Topic.Node, b) })
	case mqtt.KindEvent:
		return take(a, m, &api.Event{}, func(e *api.Event) error { return a.onEvent(m.Topic.Node, e) })
	case mqtt.KindReported:
		return take(a, m, &api.Reported{}, func(r *api.Reported) error { return a.registry.OnReported(m.Topic.Node, r, a.repeated(m)) })
	case mqtt.KindCmdStatus:
		return take(a, m, &api.Status{}, func(s *api.Status) error { return a.onStatus(m.Topic, s) })
	case mqtt.KindStreamUp:
		return take(a, m, &api.Frame{}, func(f *api.Frame) error { return a.streams.deliver(m.Topic.Node, m.Topic.ID, f) })
	case mqtt.KindRequest:
		return a.onRequest(ctx, m)
	}
	return fmt.Errorf("message kind %d: %w", m.Topic.Kind, mqtt.ErrDiscard)
}

// repeated reports whether a message is one that an external broker remembers. On the embedded broker a retained message
// comes from its node, just now.
func (a *Agent) repeated(m broker.Inbound) bool { return m.Retained && a.cfg.MQTT.External != "" }

// take decodes a message and hands it on. What is malformed, stale or of a node that is not known can never be handled.
func take[T any, M interface {
	*T
	mqtt.Message
}](a *Agent, m broker.Inbound, v M, hand func(M) error) error {
	if err := a.codec.Decode(m.Topic.Kind, m.Payload, v); err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	err := hand(v)
	if errors.Is(err, registry.ErrInvalid) || errors.Is(err, registry.ErrUnknown) || errors.Is(err, telemetry.ErrMalformed) {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	return err
}

func (a *Agent) onState(m broker.Inbound, s *api.State) error {
	node := m.Topic.Node
	if n, ok := a.registry.Get(node); m.Will && ok && s.Epoch < n.Epoch {
		return fmt.Errorf("last will of session %d, now %d: %w", s.Epoch, n.Epoch, mqtt.ErrDiscard) // of a session that was taken over
	}
	if err := a.registry.OnState(node, s, a.repeated(m)); err != nil {
		return err
	}
	if a.share != nil {
		defer a.share.poke() // with a birth that came before, it may be one to greet now
	}
	if s.State == api.StateLost || s.State == api.StateOffline || s.State == api.StateSleeping {
		a.journal.OnNodeDown(node, s.Epoch)
	}
	return nil
}

// onBirth greets a node once per session: what it should be, signed for this session, with the time; then its open commands.
func (a *Agent) onBirth(ctx context.Context, m broker.Inbound, b *api.Birth) error {
	node := m.Topic.Node
	if b.Node != node || b.Cluster != a.cfg.Cluster {
		return fmt.Errorf("birth of %s of cluster %s on the topic of %s: %w", b.Node, b.Cluster, node, mqtt.ErrDiscard)
	}
	assignRoles(b.Verbs)
	var bad error
	b.Labels, bad = api.OwnLabels("labels", b.Labels)
	before, ok := a.registry.Get(node)
	greeted := ok && before.Birth != nil && sameSession(before.Birth, b) && !a.repeated(m)
	if err := a.registry.OnBirth(node, b, a.repeated(m)); err != nil {
		return err
	}
	a.badLabels.tell(a, node, bad)
	if greeted { // it has changed since, that is all
		return nil
	}
	n, ok := a.registry.Get(node)
	if ok && n.Epoch > b.Epoch && !a.repeated(m) {
		a.behind(ctx, node, b.Epoch, n.Epoch)
	}
	if !ok || n.Epoch != b.Epoch || a.repeated(m) && n.Presence != api.PresenceOnline && n.Presence != api.PresenceDraining {
		return nil // of an older session, or of a node that an external broker remembers and that is away
	}
	if a.share != nil {
		return a.share.meet(ctx, node)
	}
	return a.greet(ctx, node, b)
}

// sameSession reports whether two births tell of one session. The copy of a card, or of its state, may count to the same number.
func sameSession(a, b *api.Birth) bool {
	return a.Epoch == b.Epoch && a.Boot == b.Boot && a.Started == b.Started
}

// greet tells a node at the begin of its session what it should be, and delivers what is open.
func (a *Agent) greet(ctx context.Context, node string, b *api.Birth) error {
	a.acks.reset(node)
	if err := a.registry.Renumber(node, b.Desired); err != nil {
		return err
	}
	if err := a.sendDesired(ctx, node, b.Epoch); err != nil {
		return err
	}
	a.acks.crowd(node)
	a.journal.OnNodeUp(node, b.Epoch, b.OpenCommands)
	return nil
}

// smallCrowd is let in before a node's first waits are over.
const smallCrowd = 2 * time.Second

// crowd is how long the broker takes to let all nodes in; 0 when that is not worth a word, or an external one's to know. A quarter more
// than its rate, for a random spread is not an even one.
func (a *Agent) crowd() time.Duration {
	if a.cfg.MQTT.External != "" {
		return 0
	}
	d := time.Duration(a.registry.Count()) * time.Second * 5 / 4 / time.Duration(a.cfg.MQTT.AcceptPerSecond)
	if d < smallCrowd {
		return 0
	}
	return min(d, api.MaxRetry)
}

// behind tells a node that has begun a session below one that is known of that it lost count, as one does whose state
// was damaged or put back from a copy: nothing that is signed for the session it should have would be for the one it
// has. A birth of the session before, late on its way, does no harm: the node is beyond it.
func (a *Agent) behind(ctx context.Context, node string, epoch, known uint64) {
	a.noteOf(node, api.ClassAlarm, "node.epoch_behind", "", fmt.Sprintf("session %d after %d: the node lost its state and is told to count on", epoch, known))
	a.acks.send(ctx, node, &api.Ack{Time: api.At(a.clock.Now()), EpochFloor: known})
}

// desiredValidity is how long a desired document may be accepted after it was signed. It is signed anew on every
// connect; once accepted it stays in force.
const desiredValidity = 24 * time.Hour

func (a *Agent) sendDesired(ctx context.Context, node string, epoch uint64) error {
	d, err := a.registry.DesiredFor(node, epoch)
	if err == nil && d == nil { // it was never told anything: generation 1, empty, carries the signed time
		if _, err = a.registry.SetDesired(node, func(*api.Desired) error { return nil }); err == nil {
			d, err = a.registry.DesiredFor(node, epoch)
		}
	}
	if err != nil || d == nil {
		return err
	}
	if d.Claim, err = a.claim(node); err != nil {
		return err
	}
	return a.sendSigned(ctx, mqtt.KindDesired, a.topics.Of(mqtt.KindDesired, node, ""), d)
}

// claim is what orders to node are signed with. The only cluster agent of a fleet has none, unless the node obeys one from
// a time when there were several.
func (a *Agent) claim(node string) (*api.Claim, error) {
	if a.share != nil {
		return a.share.claim(node)
	}
	if n, ok := a.registry.Get(node); ok && n.Birth != nil && n.Birth.Claim != nil {
		next := owner.Next(a.cfg.Cluster, *n.Birth.Claim)
		return &next, nil
	}
	return nil, nil
}

// sendSigned publishes v, signed, retained if the contract says so.
func (a *Agent) sendSigned(ctx context.Context, kind mqtt.Kind, topic string, v any) error {
	signed, err := mqtt.Seal(a.authority.OrderSigner(), kind, v)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(signed)
	if err != nil {
		return err
	}
	entry, _ := mqtt.EntryOf(kind)
	return a.wire.Publish(ctx, topic, payload, entry.Retain)
}

// Deliver hands a command to the broker, signed for a session of its node.
func (a *Agent) Deliver(ctx context.Context, node string, epoch uint64, cmd *api.Command) error {
	signed := *cmd
	signed.Epoch = epoch
	var err error
	if signed.Claim, err = a.claim(node); err != nil {
		return err
	}
	return a.sendSigned(ctx, mqtt.KindCmd, a.topics.Of(mqtt.KindCmd, node, cmd.ID), &signed)
}

func (a *Agent) onBatch(ctx context.Context, node string, b *api.Batch) error {
	a.registry.OnTelemetry(node, a.clock.Now())
	pos, err := a.telemetry.Append(ctx, node, b)
	if errors.Is(err, telemetry.ErrUnavailable) && a.life.Err() == nil {
		a.putOff(node, err)
		return nil
	}
	if err != nil {
		return err
	}
	a.takesAgain()
	a.samples.Add(uint64(b.Samples()))
	a.acks.batch(node, b, pos)
	if d, ok := dropsOf(b); ok {
		a.registry.OnDropped(node, b.Epoch, d)
	}
	return nil
}

func (a *Agent) onEvent(node string, e *api.Event) error {
	mark, err := a.registry.Events().AppendNode(node, e)
	if err != nil {
		return err
	}
	a.acks.event(node, e.Epoch, mark)
	return nil
}

func (a *Agent) onStatus(topic mqtt.Topic, s *api.Status) error {
	if s.ID != topic.ID {
		return fmt.Errorf("status of %s on the topic of %s: %w", s.ID, topic.ID, mqtt.ErrDiscard)
	}
	if err := a.journal.OnStatus(topic.Node, s); err != nil {
		return err
	}
	if s.Phase.Final() {
		a.acks.commands(topic.Node)
	}
	return nil
}

// mirror publishes the life of every command that came as an MQTT request on its request topic.
func (a *Agent) mirror(ctx context.Context) error {
	for ctx.Err() == nil {
		w := a.journal.Watch(ctx)
		for change := range w.Changes() {
			if rec := change.Item; isRequest(&rec) && !change.Deleted {
				a.requesters.step(ctx, &rec)
			}
		}
		if err := w.Err(); err != nil { // fell behind: the requesters of what is open now are told where it stands
			a.log.Warn("requesters may have missed a step", agent.KeyErr, err)
			open, err := a.journal.List(openCommands(""))
			if err != nil {
				return err
			}
			for i := range open {
				if isRequest(&open[i]) {
					a.requesters.step(ctx, &open[i])
				}
			}
		}
	}
	return nil
}
