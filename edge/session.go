package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/mqtt"
)

// publisher is a way out: a session's while it is announced, the line's afterwards.
type publisher func(ctx context.Context, topic string, payload []byte, retain bool) error

// inboundBytes bounds what a broker, perhaps somebody else's, can have this node hold at once: eight of the largest messages.
const inboundBytes = 1 << 20

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
		Keep: 3, QueueBytes: inboundBytes, KeepAlive: cfg.MQTT.KeepAlive, BackoffMax: cfg.MQTT.BackoffMax, StableAfter: cfg.MQTT.StableAfter,
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
	return a.tell(ctx, s.Publish)
}

// tell publishes what a session begins with.
func (a *Agent) tell(ctx context.Context, publish publisher) error {
	a.clock.Ask(a.epoch.Load())
	if err := a.publishBirth(ctx, a.birth(), publish); err != nil {
		return err
	}
	state, err := a.stateMessage(api.StateOnline, "connected")
	if err != nil {
		return err
	}
	if err := publish(ctx, state.Topic, state.Payload, true); err != nil {
		return err
	}
	return a.report(ctx, publish)
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

// goodbye is the last word of a link that ends cleanly: a stop of the agent, unless another link takes its place.
func (a *Agent) goodbye() (mqtt.Outbound, bool) {
	state, reason := api.StateOffline, "stopped"
	if a.line.replacing.Load() {
		state, reason = api.StateDraining, "connecting anew: the settings of its link were changed"
	}
	m, err := a.stateMessage(state, reason)
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
	if cmd.Node == id.Node {
		if err := a.obey(cmd.Claim); err != nil {
			return fmt.Errorf("command %s: %w", cmd.ID, err)
		}
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
	if ack.RetryMillis > 0 {
		a.line.setCrowd(time.Duration(ack.RetryMillis) * time.Millisecond)
	}
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
	own := *s // the engine may be writing s to its journal meanwhile
	own.Epoch = a.epoch.Load()
	payload, err := a.codec.Encode(mqtt.Encoding(a.encoding.Load()), &own)
	if err != nil {
		return err
	}
	return a.line.Publish(ctx, a.topic(mqtt.KindCmdStatus, s.ID), payload, false)
}
