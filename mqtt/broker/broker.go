package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/mqtt"
)

// Broker is an MQTT broker. Run runs once; all other methods are safe for concurrent use.
type Broker struct {
	cfg      Config
	contract [mqtt.KindAdmission + 1]mqtt.Entry
	lines    *lines
	count    counters
	server   *mochi.Server // from Run on
	hook     *hook
	listen   *listener
	ready    chan struct{}
	stopping atomic.Bool

	mu       sync.Mutex
	all      map[*peer]struct{} // connections whose certificate is known
	each     map[string]int     // how many of them, by common name
	sessions map[string]*peer   // by mochi's client id
}

const (
	// graceful is how long a stopping broker waits for what is being handled, and brutal how long after it has
	// cancelled that and torn the connections. Together they stay below 5 s.
	graceful = 3 * time.Second
	brutal   = 1500 * time.Millisecond

	minVersion = 4 // MQTT 3.1.1
)

// Run serves until ctx ends, then takes no more connections, ends the sessions, and waits for what is being handled.
// Last wills are kept back then: it is not the nodes that leave.
func (b *Broker) Run(ctx context.Context) error {
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	b.server = mochi.New(b.options())
	b.hook = &hook{broker: b, ctx: handling}
	if err := b.server.AddHook(b.hook, nil); err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	ln, err := listen(ctx, b)
	if err != nil {
		return err
	}
	b.listen = ln
	if err := b.server.AddListener(ln); err != nil {
		return errors.Join(fmt.Errorf("start broker: %w", err), ln.inner.Close())
	}
	// Not mochi's Serve. That publishes $SYS, which nobody may read, and begins a loop that once a second copies every retained message
	// and what each client has not acknowledged, 8 MB with 2,000 nodes, to look for what has expired (docs/adr/0027): sessions here end with
	// their connections, wills are not put off, and a retained message that its publisher lets expire goes in replayOne.
	b.server.Listeners.Serve(ln.ID(), nil)
	close(b.ready)
	b.expire(ctx)
	return b.stop(cancel)
}

func (b *Broker) options() *mochi.Options {
	l := b.cfg.Limits
	caps := mochi.NewDefaultServerCapabilities()
	caps.MinimumProtocolVersion = minVersion
	caps.MaximumClientWritesPending = int32(l.WritesPending)
	caps.MaximumPacketSize = uint32(l.MaxPacketBytes)
	caps.MaximumSessionExpiryInterval = 0 // sessions end with their connections
	caps.MaximumMessageExpiryInterval = 0 // what is retained stays: mochi would forget it after a day
	caps.MaximumQos = mqtt.QoS
	caps.MaximumInflight = maxInflight // bounded by Window and WritesPending, which together are below
	caps.ReceiveMaximum = 256
	caps.TopicAliasMaximum = 0 // mochi asks for permission before it resolves an alias
	caps.SharedSubAvailable = 0
	return &mochi.Options{
		Capabilities:             caps,
		ClientNetReadBufferSize:  readerBytes,
		ClientNetWriteBufferSize: 1, // none: mochi would keep packets in it while hold waits; peer has its own
		InlineClient:             true,
		Logger:                   slog.New(&quiet{b.cfg.Log.Handler()}),
	}
}

// expire ends the sessions of certificates that end, until ctx does. It looks again and again instead of setting a
// timer for each, because a timer would not notice that the clock was set.
func (b *Broker) expire(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := b.cfg.Now()
		for _, p := range b.peers(func(p *peer) bool { return now.After(p.notAfter) && !p.ended() }) {
			b.refuse("certificate expired", p, ErrExpired)
			p.expel(packets.ErrNotAuthorized, ErrExpired)
		}
	}
}

// Why the broker ended a session, as OnDisconnect is told.
var (
	ErrExpired  = errors.New("certificate expired")
	ErrKicked   = errors.New("ended by the cluster agent")
	ErrStopping = errors.New("broker is stopping")
	ErrReplaced = errors.New("taken over by a new session")
)

// stop ends every session, and waits for them.
func (b *Broker) stop(cancel context.CancelFunc) error {
	b.stopping.Store(true)
	b.listen.stop()
	b.expelAll()
	left := time.NewTimer(graceful)
	defer left.Stop()
	select {
	case <-b.listen.ended:
	case <-left.C:
		cancel()
		for _, p := range b.peers(nil) {
			_ = p.socket.Close() // the peer does not take its last words; nobody is left to tell
		}
		left.Reset(brutal)
		select {
		case <-b.listen.ended:
		case <-left.C:
			return fmt.Errorf("stop broker: %d connections are still being handled", len(b.peers(nil)))
		}
	}
	if err := b.server.Close(); err != nil {
		return fmt.Errorf("stop broker: %w", err)
	}
	return nil
}

func (b *Broker) expelAll() {
	for _, p := range b.peers(nil) {
		p.expel(packets.ErrServerShuttingDown, ErrStopping)
	}
}

// peers returns the connections for which want holds; nil wants all.
func (b *Broker) peers(want func(*peer) bool) []*peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*peer
	for p := range b.all {
		if want == nil || want(p) {
			out = append(out, p)
		}
	}
	return out
}

// Ready is closed when the broker takes connections.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// Addr is where the broker listens; call it after Ready.
func (b *Broker) Addr() net.Addr { return b.listen.inner.Addr() }

func (b *Broker) up() bool {
	select {
	case <-b.ready:
		return !b.stopping.Load()
	default:
		return false
	}
}

// Publish sends a message of the cluster agent to whoever has subscribed, with QoS 1. It never blocks. nil says that it
// is on its way, not that anybody has it. An empty payload with retain clears the retained message [MQTT-3.3.1-10].
func (b *Broker) Publish(ctx context.Context, topic string, payload []byte, retain bool) error {
	parsed, err := b.cfg.Topics.Parse(topic)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := b.conforms(parsed.Kind, retain, len(payload)); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	if !b.up() {
		return fmt.Errorf("publish %s: %w", topic, mqtt.ErrDown)
	}
	if err := b.server.Publish(topic, payload, retain, mqtt.QoS); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}

// conforms checks a publish against the contract.
func (b *Broker) conforms(kind mqtt.Kind, retain bool, size int) error {
	entry := &b.contract[kind]
	if retain && !entry.Retain {
		return fmt.Errorf("%s is retained: %w", entry.Name, errRetain)
	}
	if size > entry.MaxBytes {
		return fmt.Errorf("%s has %d bytes; wanted at most %d", entry.Name, size, entry.MaxBytes)
	}
	return nil
}

var errRetain = errors.New("the contract does not retain it")

// Kick ends the connections of a client, by its certificate's common name, and returns how many there were. Their last
// wills are kept back: who kicks knows better what became of the node.
func (b *Broker) Kick(commonName string) int {
	kicked := b.peers(func(p *peer) bool { return p.id.CommonName() == commonName })
	for _, p := range kicked {
		p.silent.Store(true)
		p.expel(packets.ErrAdministrativeAction, ErrKicked)
	}
	return len(kicked)
}

// ClearRetained forgets every retained message under a node, tells the subscribers so, and returns how many there were.
func (b *Broker) ClearRetained(ctx context.Context, node string) (int, error) {
	if !b.up() {
		return 0, fmt.Errorf("clear retained messages of %s: %w", node, mqtt.ErrDown)
	}
	n := 0
	for i := range b.contract {
		e := &b.contract[i]
		if !e.Retain {
			continue
		}
		topic := b.cfg.Topics.Of(e.Kind, node, "")
		if _, ok := b.server.Topics.Retained.Get(topic); !ok {
			continue
		}
		if err := b.Publish(ctx, topic, nil, true); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Connected returns who has a session now, in no order; an operator with several is there several times.
func (b *Broker) Connected() []mqtt.Identity {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]mqtt.Identity, 0, len(b.sessions))
	for _, p := range b.sessions {
		out = append(out, p.id)
	}
	return out
}
