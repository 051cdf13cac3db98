package swarm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/outbox"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// What follows is the node agent's part of a session (package edge), with the same order of things.

func (n *node) topic(kind mqtt.Kind, id string) string { return n.swarm.topics.Of(kind, n.id, id) }

func (n *node) encode(v any) ([]byte, error) { return n.swarm.codec.Encode(n.swarm.encoding, v) }

// begin opens a session: a new epoch, and the will that says that this very session was lost.
func (n *node) begin(context.Context) (mqtt.Outbound, error) {
	n.epoch.Add(1)
	n.swarm.stats.attempts.Add(1)
	return n.stateMessage(api.State{State: api.StateLost, Reason: "connection lost"})
}

func (n *node) stateMessage(st api.State) (mqtt.Outbound, error) {
	st.Epoch, st.Boot, st.At = n.epoch.Load(), n.swarm.boot, api.At(n.clock.Now())
	payload, err := n.encode(&st)
	return mqtt.Outbound{Topic: n.topic(mqtt.KindState, ""), Payload: payload, Retain: true}, err
}

// announce tells who is there, before anything else is sent in this session.
func (n *node) announce(ctx context.Context, s *mqtt.Session) error { return n.tell(ctx, s.Publish) }

// publisher is a way out: a session's while it is announced, the link's afterwards.
type publisher = func(ctx context.Context, topic string, payload []byte, retain bool) error

// tell publishes what a session begins with.
func (n *node) tell(ctx context.Context, publish publisher) error {
	n.clock.Ask(n.epoch.Load())
	birth, err := n.encode(n.birth())
	if err != nil {
		return err
	}
	if err := publish(ctx, n.topic(mqtt.KindBirth, ""), birth, true); err != nil {
		return err
	}
	state, err := n.stateMessage(api.State{State: api.StateOnline, Reason: "connected"})
	if err != nil {
		return err
	}
	if err := publish(ctx, state.Topic, state.Payload, true); err != nil {
		return err
	}
	return n.sendReport(ctx, publish)
}

func (n *node) birth() *api.Birth {
	s := n.swarm
	now, quality := n.clock.Read()
	p := &s.cfg.Profile
	b := &api.Birth{Node: n.id, Cluster: s.topics.Cluster, Epoch: n.epoch.Load(), Boot: s.boot, At: api.At(now), TimeQuality: quality,
		Started: api.At(s.started), Version: agent.Version(), Host: host(n.id), Verbs: s.verbs, Backlog: n.outbox.Backlog(),
		Runtimes:       p.Workloads.Runtimes,
		IntervalMillis: p.Cadence.Milliseconds() * int64(p.BatchRows), AutonomyMillis: (24 * time.Hour).Milliseconds()}
	n.mu.Lock()
	defer n.mu.Unlock()
	b.Desired = n.desired
	if n.engine != nil {
		b.OpenCommands = n.engine.Open()
	}
	return b
}

func host(name string) api.Host {
	return api.Host{Hostname: name, OS: "simulated", Arch: "amd64", CPUs: 1, MemoryBytes: 64 << 20}
}

// goodbye is the last word before a clean stop: offline, or sleeping until the node wakes.
func (n *node) goodbye() (mqtt.Outbound, bool) {
	st := api.State{State: api.StateOffline, Reason: "stopped"}
	if n.asleep.Load() {
		st = api.State{State: api.StateSleeping, Reason: "sleeps", Wake: api.At(n.clock.Now().Add(n.swarm.cfg.Profile.Sleep.Asleep))}
	}
	m, err := n.stateMessage(st)
	return m, err == nil
}

func (n *node) onUp() {
	n.up.Store(true)
	n.swarm.stats.online.Add(1)
	n.outbox.Connected(n.epoch.Load())
	n.mu.Lock()
	engine := n.engine
	n.mu.Unlock()
	if engine != nil {
		n.swarm.work.Go(func() { engine.Resend(n.swarm.life) })
	}
}

func (n *node) onDown(error) {
	if n.up.Swap(false) {
		n.swarm.stats.online.Add(-1)
	}
	n.outbox.Disconnected()
}

// Send is the outbox's way out. What is sent is looked at on its way: the outbox may have merged, thinned or restamped it.
func (n *node) Send(ctx context.Context, kind mqtt.Kind, v any, done func(error)) {
	payload, err := n.encode(v)
	if err != nil {
		done(fmt.Errorf("%w: %w", err, outbox.ErrUnsendable))
		return
	}
	link := n.link.Load()
	if b, ok := v.(*api.Batch); ok {
		n.sending(b)
	}
	start := time.Now()
	receipt, err := link.PublishAsync(ctx, n.topic(kind, ""), payload, false)
	if err != nil {
		done(err)
		return
	}
	go func() { // ends with the session at the latest
		err := receipt.Wait(ctx)
		if err == nil && kind == mqtt.KindTele {
			n.swarm.stats.ingest.Add(time.Since(start))
		}
		done(err)
	}()
}

// sending notes the rows of a batch that is about to go out. Between its Prev and itself the outbox holds nothing any more:
// what went out of there before was merged into this one, or given up, and is not to be taken for acknowledged with it.
func (n *node) sending(b *api.Batch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flight = slices.DeleteFunc(n.flight, func(f flight) bool { return f.epoch == b.Epoch && f.seq > b.Prev && f.seq <= b.Seq })
	f := flight{epoch: b.Epoch, seq: b.Seq, sent: time.Now()}
	for _, r := range b.Rows {
		if _, _, row, ok := account.ParseValue(r.Values[0]); ok {
			f.rows = append(f.rows, int32(row))
			n.truth.Sent(row, int64(b.T0)+r.OffsetMillis)
		}
	}
	n.flight = append(n.flight, f)
}

// onAck forgets what the cluster agent has.
func (n *node) onAck(_ context.Context, m mqtt.Inbound) error {
	var ack api.Ack
	if err := n.swarm.codec.Decode(mqtt.KindAck, m.Payload, &ack); err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	if link := n.link.Load(); link != nil && ack.RetryMillis > 0 {
		link.SetCrowd(time.Duration(ack.RetryMillis) * time.Millisecond)
	}
	now := time.Now()
	n.mu.Lock()
	n.flight = slices.DeleteFunc(n.flight, func(f flight) bool {
		if f.epoch != ack.Epoch || f.seq > ack.Seq {
			return false
		}
		if rows := n.truth.Acked(f.rows); rows > 0 {
			n.swarm.stats.acked.Add(uint64(rows * n.truth.Series))
			n.swarm.stats.ack.Add(now.Sub(f.sent))
		}
		return true
	})
	engine := n.engine
	n.mu.Unlock()
	n.outbox.Ack(&ack)
	if engine != nil {
		engine.Acked(ack.Commands)
	}
	return nil
}

// onCommand verifies an order and hands it to the engine.
func (n *node) onCommand(ctx context.Context, m mqtt.Inbound) error {
	var cmd api.Command
	topic, err := n.swarm.topics.Parse(m.Topic)
	if err == nil {
		err = n.swarm.codec.Open(n.swarm.orderKeys, mqtt.KindCmd, m.Payload, &cmd)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	if cmd.ID != topic.ID || cmd.Epoch != n.epoch.Load() {
		return fmt.Errorf("command %s for session %d; wanted %d: %w", cmd.ID, cmd.Epoch, n.epoch.Load(), mqtt.ErrDiscard)
	}
	engine, err := n.withEngine()
	if err != nil {
		return err
	}
	n.swarm.commands.Arrived(n.id, cmd.ID, cmd.Verb)
	err = engine.Handle(ctx, &cmd)
	if errors.Is(err, command.ErrMisaddressed) {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	return err
}

// withEngine starts the engine at the first command: most nodes of a large swarm never get one.
func (n *node) withEngine() (*command.Engine, error) {
	s := n.swarm
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.engine != nil {
		return n.engine, nil
	}
	engine, err := command.New(command.Config{Node: n.id, DB: s.db, Bucket: n.id, Clock: n.clock, Verbs: s.handlers, Log: s.quiet, BootID: s.boot}, n)
	if err != nil {
		return nil, err
	}
	n.engine = engine
	s.work.Go(func() { s.note(engine.Run(s.life)) })
	return engine, nil
}

// SendStatus is the command engine's way out.
func (n *node) SendStatus(ctx context.Context, st *api.Status) error {
	if st.Phase.Final() {
		n.swarm.commands.Ended(st.ID, st.Phase)
	}
	out := *st
	out.Epoch = n.epoch.Load()
	payload, err := n.encode(&out)
	if err != nil {
		return err
	}
	return n.link.Load().Publish(ctx, n.topic(mqtt.KindCmdStatus, st.ID), payload, false)
}
