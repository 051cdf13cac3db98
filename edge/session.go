package edge

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/mqtt"
)

// publisher is a way out: a session's while it is announced, the line's afterwards.
type publisher func(ctx context.Context, topic string, payload []byte, retain bool) error

// newLink builds the link of a configuration.
func (a *Agent) newLink(cfg configs.Edge) (*mqtt.Link, error) {
	id := a.keeper.Current()
	servers := cfg.MQTT.Servers
	if len(servers) == 0 {
		servers = id.MQTT
	}
	t := a.topics.Load()
	handlers := []struct {
		kind mqtt.Kind
		take func(ctx context.Context, topic mqtt.Topic, payload []byte) error
	}{{mqtt.KindDesired, a.onDesired}, {mqtt.KindCmd, a.onCommand}, {mqtt.KindAck, a.onAck}, {mqtt.KindStreamDown, a.onFrame}}
	var subs []mqtt.Subscription
	for _, h := range handlers {
		subs = append(subs, mqtt.Subscription{Filter: t.Filter(h.kind, id.Node), Handler: func(ctx context.Context, m mqtt.Inbound) error {
			topic, err := t.Parse(m.Topic)
			if err != nil {
				return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
			}
			return h.take(ctx, topic, m.Payload)
		}})
	}
	return mqtt.NewLink(mqtt.LinkConfig{
		Servers: servers, ClientID: id.Node, TLS: a.brokerTLS,
		KeepAlive: cfg.MQTT.KeepAlive, BackoffMax: cfg.MQTT.BackoffMax, StableAfter: cfg.MQTT.StableAfter,
		Subscriptions: subs, Begin: a.begin, Announce: a.announce, Goodbye: a.goodbye, OnUp: a.onUp, OnDown: a.onDown, Log: a.log,
	})
}

// begin opens a session: a new epoch, and the will that says that this very session was lost.
func (a *Agent) begin(context.Context) (mqtt.Outbound, error) {
	epoch, err := a.store.NextEpoch()
	if err != nil {
		return mqtt.Outbound{}, err
	}
	a.epoch.Store(epoch)
	return a.stateMessage(api.StateLost, "connection lost")
}

func (a *Agent) stateMessage(state api.NodeState, reason string) (mqtt.Outbound, error) {
	s := &api.State{State: state, Epoch: a.epoch.Load(), Boot: a.boot, At: api.At(a.clock.Now()), Reason: reason}
	payload, err := a.codec.Encode(mqtt.Encoding(a.encoding.Load()), s)
	return mqtt.Outbound{Topic: a.topic(mqtt.KindState, ""), Payload: payload, Retain: true}, err
}

func (a *Agent) topic(kind mqtt.Kind, id string) string {
	return a.topics.Load().Of(kind, a.keeper.Current().Node, id)
}

// announce tells who is there, before anything else is sent in this session.
func (a *Agent) announce(ctx context.Context, s *mqtt.Session) error {
	select { // before, nobody knows which commands are open
	case <-a.engine.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	a.clock.Ask(a.epoch.Load())
	if err := a.publishBirth(ctx, a.birth(), s.Publish); err != nil {
		return err
	}
	state, err := a.stateMessage(api.StateOnline, "connected")
	if err != nil {
		return err
	}
	if err := s.Publish(ctx, state.Topic, state.Payload, true); err != nil {
		return err
	}
	return a.report(ctx, s.Publish)
}

// onUp lets what waits go out. Before this, a publish by anybody but announce fails, and would only be put off.
func (a *Agent) onUp() {
	a.outbox.Connected(a.epoch.Load())
	select {
	case a.resendDue <- struct{}{}:
	default: // it is due already
	}
}

// resender sends final statuses again at each new session.
func (a *Agent) resender(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.resendDue:
			a.engine.Resend(ctx)
		}
	}
}

// goodbye is the last word of a clean stop.
func (a *Agent) goodbye() (mqtt.Outbound, bool) {
	m, err := a.stateMessage(api.StateOffline, "stopped")
	if err != nil {
		a.log.Warn("goodbye not encoded", agent.KeyErr, err)
	}
	return m, err == nil
}

// onDown ends what hangs on the session.
func (a *Agent) onDown(err error) {
	a.outbox.Disconnected()
	if err == nil {
		err = errors.New("link stopped")
	}
	a.streams.CloseAll(fmt.Errorf("link lost: %w", err))
}

// onCommand verifies an order and hands it to the engine.
func (a *Agent) onCommand(ctx context.Context, topic mqtt.Topic, payload []byte) error {
	var cmd api.Command
	id := a.keeper.Current()
	if err := a.codec.Open(id.OrderPublicKeys(), mqtt.KindCmd, payload, &cmd); err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	if cmd.ID != topic.ID || cmd.Epoch != a.epoch.Load() {
		// Signed for another session: an old one that somebody kept, or one under way while we reconnected. The cluster
		// agent signs it anew for this session.
		return fmt.Errorf("command %s on topic of %s, for session %d; wanted session %d: %w", cmd.ID, topic.ID, cmd.Epoch, a.epoch.Load(),
			mqtt.ErrDiscard)
	}
	err := a.engine.Handle(ctx, &cmd)
	if errors.Is(err, command.ErrMisaddressed) {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	return err
}

// onAck forgets what the cluster agent has.
func (a *Agent) onAck(_ context.Context, _ mqtt.Topic, payload []byte) error {
	var ack api.Ack
	if err := a.codec.Decode(mqtt.KindAck, payload, &ack); err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	a.outbox.Ack(&ack)
	a.engine.Acked(ack.Commands)
	if now := a.epoch.Load(); ack.EpochFloor > now { // this ends the session, and begin is called after its end
		a.store.RaiseEpoch(ack.EpochFloor)
		return fmt.Errorf("session %d is behind %d, which the cluster agent knows of: this node's state was lost; beginning a newer one",
			now, ack.EpochFloor)
	}
	return nil
}

// onFrame hands a frame to its stream.
func (a *Agent) onFrame(_ context.Context, topic mqtt.Topic, payload []byte) error {
	var f api.Frame
	err := a.codec.Decode(mqtt.KindStreamDown, payload, &f)
	if err == nil {
		err = a.streams.Deliver(topic.ID, &f)
	}
	if err != nil { // a broken stream is its own trouble, not the link's
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	return nil
}

func (a *Agent) sendFrame(ctx context.Context, sid string, f *api.Frame) error {
	payload, err := a.codec.Encode(mqtt.CBOR, f) // frames carry bytes: base64 would cost a third
	if err != nil {
		return err
	}
	return a.line.Publish(ctx, a.topic(mqtt.KindStreamUp, sid), payload, false)
}

// SendStatus is the command engine's way out.
func (a *Agent) SendStatus(ctx context.Context, s *api.Status) error {
	s.Epoch = a.epoch.Load()
	payload, err := a.codec.Encode(mqtt.Encoding(a.encoding.Load()), s)
	if err != nil {
		return err
	}
	return a.line.Publish(ctx, a.topic(mqtt.KindCmdStatus, s.ID), payload, false)
}

// onDesired takes a new desired document. In this version a node keeps it, applies its
// configuration, and says of workloads and policies that it has no runtime and no engine for them.
func (a *Agent) onDesired(_ context.Context, _ mqtt.Topic, payload []byte) error {
	var d api.Desired
	id := a.keeper.Current()
	if err := a.codec.Open(id.OrderPublicKeys(), mqtt.KindDesired, payload, &d); err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	if d.Node != id.Node {
		return fmt.Errorf("desired document is for %s: %w", d.Node, mqtt.ErrDiscard)
	}
	if d.Epoch == a.epoch.Load() { // retained by another broker, or late, it tells no time
		a.clock.Word(d.Epoch, d.Issued.Time())
		a.outbox.TimeKnown()
	}
	current := a.desired.Load()
	if current != nil && d.Generation <= current.Generation {
		return nil // known, or older than what is in force
	}
	if a.clock.Cluster().After(d.Expires.Time()) {
		return fmt.Errorf("desired generation %d expired at %s: %w", d.Generation, d.Expires.Time(), mqtt.ErrDiscard)
	}
	if err := a.store.SetDesired(payload); err != nil {
		return err
	}
	a.desired.Store(&api.Revision{Generation: d.Generation, Hash: d.Hash})
	a.settings.desire(&d)
	a.event(api.ClassEvent, "desired.accepted", "", fmt.Sprintf("generation %d", d.Generation))
	a.oweReport()
	return nil
}

// oweReport has the reporter tell what became of the desired document or the settings.
func (a *Agent) oweReport() {
	select {
	case a.reportDue <- struct{}{}:
	default: // one report tells all
	}
}

// reporter publishes what the node made of a new desired document. Not the handler itself: the document may arrive while
// the session is still being announced, when nobody else can publish yet.
func (a *Agent) reporter(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.reportDue:
		}
		if a.line.AwaitUp(ctx) != nil {
			return nil
		}
		if err := a.report(ctx, a.line.Publish); err != nil && ctx.Err() == nil {
			a.log.Debug("report not sent; the next session begins with it", agent.KeyErr, err)
		}
	}
}

// loadDesired restores what was accepted before. A signature is checked again; expiry is not: what was accepted stays
// in force however long the node is alone.
func (a *Agent) loadDesired(id *identity.Identity) error {
	raw, err := a.store.Desired()
	if err != nil || raw == nil {
		return err
	}
	var d api.Desired
	if err := a.codec.Open(id.OrderPublicKeys(), mqtt.KindDesired, raw, &d); err != nil {
		a.log.Warn("kept desired document is not used", agent.KeyErr, err)
		return nil
	}
	a.desired.Store(&api.Revision{Generation: d.Generation, Hash: d.Hash})
	a.settings.desire(&d) // a crash may have come between keeping the document and applying it
	return nil
}

// report publishes what the node made of the desired document, if it has one.
func (a *Agent) report(ctx context.Context, publish publisher) error {
	raw, err := a.store.Desired()
	if err != nil || raw == nil {
		return err
	}
	var d api.Desired
	if err := a.codec.Open(a.keeper.Current().OrderPublicKeys(), mqtt.KindDesired, raw, &d); err != nil {
		return nil // said at the start
	}
	r := &api.Reported{Generation: d.Generation, Hash: d.Hash, Epoch: a.epoch.Load(), At: api.At(a.clock.Now()), Config: a.settings.report(),
		Workloads: []api.WorkloadStatus{}, Policies: []api.PolicyStatus{}}
	for _, w := range d.Workloads {
		r.Workloads = append(r.Workloads, api.WorkloadStatus{Name: w.Name, State: "rejected", Reason: "this node has no runtime " + w.Runtime})
	}
	for _, p := range d.Policies {
		r.Policies = append(r.Policies, api.PolicyStatus{Name: p.Name, State: "rejected", Reason: "this node has no policy engine " + p.Kind})
	}
	payload, err := a.codec.Encode(mqtt.Encoding(a.encoding.Load()), r)
	if err != nil {
		return err
	}
	return publish(ctx, a.topic(mqtt.KindReported, ""), payload, true)
}
