package broker_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

func (r *raw) subscribe(id uint16, filter string) {
	r.t.Helper()
	r.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: r.version,
		PacketID: id, Filters: packets.Subscriptions{{Filter: filter, Qos: 1}}})
	ack, err := r.read(patience)
	if err != nil || ack.FixedHeader.Type != packets.Suback || ack.ReasonCodes[0] > 1 {
		r.t.Fatalf("subscribe %s: got packet %d with %v, %v", filter, ack.FixedHeader.Type, ack.ReasonCodes, err)
	}
}

// TestASlowConsumerHoldsUpNobody has the write timeout, which is what a publisher would wait for, be longer than the test's patience.
func TestASlowConsumerHoldsUpNobody(t *testing.T) {
	w := newWorld(t, func(c *broker.Config) {
		c.Limits.WritesPending, c.Limits.WriteTimeout, c.Limits.MessagesPerSecond = 16, 10*patience, 100_000
	})
	slow := w.dial(w.tls(person("slow", api.RoleViewer)))
	slow.connect("slow")
	slow.takeLittle()
	slow.subscribe(1, w.topics.Filter(mqtt.KindTele, "+")) // and reads nothing from here on
	fast := w.reads(w.join(person("fast", api.RoleViewer)), w.topics.Filter(mqtt.KindTele, "+"))
	n1 := w.join(node("n1"))
	topic := w.topics.Of(mqtt.KindTele, "n1", "")
	payload := strings.Repeat("x", 100<<10)
	const messages = 60 // twice 6 MB: more than the sockets take
	for range messages {
		w.send(n1, topic, payload, false)
		next(t, fast)
		if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindTele, "n2", ""), []byte(payload), false); err != nil {
			t.Fatal(err)
		}
		next(t, fast)
	}
	if s := w.Stats(); s.Dropped == 0 || s.Inflight > 16+256 {
		t.Errorf("dropped %d, in flight %d; wanted some dropped and a bounded rest", s.Dropped, s.Inflight)
	}
	if slices.ContainsFunc(w.happened(), func(e string) bool { return strings.HasPrefix(e, "lose operator:slow") }) {
		t.Error("the consumer was disconnected before the others were served: they may have waited for that")
	}
}

func TestASlowConsumerIsDisconnected(t *testing.T) {
	w := newWorld(t, func(c *broker.Config) { c.Limits.WritesPending, c.Limits.WriteTimeout = 16, time.Second })
	slow := w.dial(w.tls(person("slow", api.RoleViewer)))
	slow.connect("slow")
	slow.takeLittle()
	slow.subscribe(1, w.topics.Filter(mqtt.KindTele, "+")) // and reads nothing from here on
	payload := make([]byte, 100<<10)
	eventually(t, "slow consumer is disconnected", func() bool {
		if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindTele, "n2", ""), payload, false); err != nil { // until the sockets take no more
			t.Fatal(err)
		}
		return slices.ContainsFunc(w.happened(), func(e string) bool { return strings.HasPrefix(e, "lose operator:slow: write") })
	})
	if w.Stats().Refused["stalled"] != 1 {
		t.Errorf("refused %v; wanted one stalled", w.Stats().Refused)
	}
}

func TestAConsumerThatNeverAcknowledgesGetsAWindowfulAndNoMore(t *testing.T) {
	w := newWorld(t, func(c *broker.Config) { c.Limits.WritesPending, c.Limits.Window = 8, 5 })
	r := w.dial(w.tls(person("mute", api.RoleViewer)))
	r.connect("mute")
	r.subscribe(1, w.topics.Filter(mqtt.KindTele, "+"))
	for range 100 {
		if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindTele, "n1", ""), []byte("x"), false); err != nil {
			t.Fatal(err)
		}
	}
	var ids []uint16
	for range 5 {
		pk, err := r.read(patience)
		if err != nil || pk.FixedHeader.Type != packets.Publish {
			t.Fatalf("got %+v, %v", pk.FixedHeader, err)
		}
		ids = append(ids, pk.PacketID)
	}
	r.silent(100 * time.Millisecond)
	if s := w.Stats(); s.Dropped < 100-5-8-2 || s.Inflight > 5+8+2 {
		t.Errorf("dropped %d, in flight %d", s.Dropped, s.Inflight)
	}
	// A packet id of the client's own that the broker also uses must not cost the window a place.
	r.subscribe(ids[0], w.topics.Filter(mqtt.KindEvent, "+"))
	for _, id := range ids {
		r.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
	}
	for i := range 5 {
		if i == 3 { // the queue had no more for sure
			for range 5 {
				if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindTele, "n1", ""), []byte("x"), false); err != nil {
					t.Fatal(err)
				}
			}
		}
		if pk, err := r.read(patience); err != nil || pk.FixedHeader.Type != packets.Publish {
			t.Fatalf("after the PUBACKs: got %+v, %v", pk.FixedHeader, err)
		}
	}
}

func TestAStormOfConnectionsIsLimitedBeforeTLS(t *testing.T) {
	const burst, perSecond = 5, 5
	w := newWorld(t, func(c *broker.Config) {
		c.Limits.AcceptPerSecond, c.Limits.AcceptPatience = perSecond, 200*time.Millisecond
		c.Limits.Handshakes, c.Limits.HandshakeTimeout = 40, patience // so that nobody waits for one of these
	})
	cfg := w.tls(node("n1"))
	outcome := make(chan error)
	for range 40 {
		go func() {
			conn, err := tls.Dial("tcp", w.Addr().String(), cfg)
			if err == nil {
				_ = conn.Close()
			}
			outcome <- err
		}()
	}
	var served, refused int
	for range 40 {
		if err := <-outcome; err != nil {
			refused++
		} else {
			served++
		}
	}
	if refused == 0 || served < burst {
		t.Errorf("served %d, refused %d of 40; wanted a burst of %d served and others refused", served, refused, burst)
	}
	if n := w.Stats().Refused["accept rate"]; n == 0 || int(n) > refused {
		t.Errorf("counted %d refused for their rate, %d were", n, refused)
	}
}

func TestWhoWaitsForAHandshakeIsSentAwayBeforeItBegins(t *testing.T) {
	var first atomic.Bool
	held, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(c *broker.Config) {
		c.Limits.Handshakes, c.Limits.AcceptPatience, c.Limits.HandshakeTimeout = 1, 100*time.Millisecond, patience
		c.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			if first.CompareAndSwap(false, true) { // this one takes long to compute
				close(held)
				<-release
			}
			return nil, nil
		}
	})
	cfg := w.tls(node("n1"))
	done := make(chan error, 1)
	go func() {
		conn, err := tls.Dial("tcp", w.Addr().String(), cfg)
		if err == nil {
			err = conn.Close()
		}
		done <- err
	}()
	<-held
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience / 2}, "tcp", w.Addr().String(), cfg)
	if err == nil {
		_ = conn.Close()
		t.Error("a second handshake was computed")
	}
	if n := w.Stats().Refused["handshakes"]; n != 1 {
		t.Errorf("refused %v, client was told %v; wanted one sent away for want of a place", w.Stats().Refused, err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the first one: %v", err)
	}
	eventually(t, "its place is free again", func() bool {
		_, err := w.try(node("n1"))
		return err == nil
	})
}

func TestSilentConnectionsHoldUpNoHandshake(t *testing.T) {
	w := newWorld(t, func(c *broker.Config) {
		c.Limits.Handshakes, c.Limits.AcceptPatience, c.Limits.HandshakeTimeout = 1, patience, patience
	})
	for range 3 {
		silent, err := net.Dial("tcp", w.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	begin := time.Now()
	w.join(node("n1"))
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("a node waited %s for who says nothing", took)
	}
}

func TestConnectionsOfOneAreBounded(t *testing.T) {
	w := newWorld(t, func(c *broker.Config) { c.Limits.ConnectionsEach = 2 })
	cfg := w.tls(person("eve", api.RoleViewer))
	for i := range 3 {
		r := w.dial(cfg)
		if i == 2 { // refused after the handshake, for only then is it known whose it is
			r.closed()
			continue
		}
		if code := r.connect(fmt.Sprint(i)); code != 0 {
			t.Fatalf("connection %d: CONNACK %d", i, code)
		}
	}
	eventually(t, "third is refused", func() bool { return w.Stats().Refused["connections of one"] == 1 })
	if code := w.dial(w.tls(node("a"))).connect("a"); code != 0 {
		t.Errorf("somebody else: CONNACK %d", code)
	}
}

func TestConnectionsAreBoundedInAll(t *testing.T) {
	w := newWorld(t, func(c *broker.Config) { c.Limits.Connections = 2 })
	for _, id := range []string{"a", "b"} {
		if code := w.dial(w.tls(node(id))).connect(id); code != 0 {
			t.Fatalf("%s: CONNACK %d", id, code)
		}
	}
	if conn, err := tls.Dial("tcp", w.Addr().String(), w.tls(node("c"))); err == nil {
		_ = conn.Close()
		t.Error("a third connection was taken")
	}
	eventually(t, "it is refused", func() bool { return w.Stats().Refused["connections"] == 1 })
	if s := w.Stats(); s.Connections != 2 {
		t.Errorf("%d connections are left of 2", s.Connections)
	}
}

func TestASilentConnectionDoesNotStay(t *testing.T) {
	// The handshake has to keep to it as well.
	w := newWorld(t, func(c *broker.Config) { c.Limits.HandshakeTimeout = 3 * time.Second })
	plain := w.dial(w.tls(node("n1"))) // TLS, and then no CONNECT
	plain.closed()
	eventually(t, "nothing is left", func() bool { return w.Stats().Connections == 0 })
}

func TestAClientIsSlowedDownToItsRate(t *testing.T) {
	const perSecond = 2
	w := newWorld(t, func(c *broker.Config) { c.Limits.MessagesPerSecond = perSecond })
	n1 := w.join(node("n1"))
	n2 := w.join(node("n2"))
	begin := time.Now()
	var said []paho.Token
	for range 30 * perSecond { // the burst, and 29 seconds' worth: there is always one that waits
		said = append(said, n1.Publish(w.topics.Of(mqtt.KindTele, "n1", ""), 1, false, "{}"))
	}
	w.send(n2, w.topics.Of(mqtt.KindTele, "n2", ""), "{}", false)
	select {
	case <-said[len(said)-1].Done():
		t.Errorf("another client waited for the last of %d messages of one, %s", len(said), time.Since(begin))
	default:
	}
	if err := settle(said[3*perSecond-1]); err != nil { // the burst, and two seconds' worth
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 1900*time.Millisecond {
		t.Errorf("%d messages took %s at %d a second", 3*perSecond, took, perSecond)
	}
	eventually(t, "several are held back", func() bool { return w.Stats().Throttled >= perSecond })
	if n := w.Stats().Dropped; n != 0 {
		t.Errorf("dropped %d", n)
	}
}

func TestStopDrainsTellsAndLeavesNothingBehind(t *testing.T) {
	before := brokerGoroutines()
	w := newWorld(t)
	n1 := w.join(node("n1"), func(o *paho.ClientOptions) { o.SetWill(w.topics.Of(mqtt.KindState, "n1", ""), "lost", 1, true) })
	five := w.dial(w.tls(person("five", api.RoleViewer)))
	five.version = 5
	if code := five.connect("five"); code != 0 {
		t.Fatalf("CONNACK %d", code)
	}
	w.dial(w.tls(node("n2"))) // in between TLS and CONNECT
	entered := make(chan struct{})
	w.onHandle(func(ctx context.Context, m broker.Inbound) error {
		close(entered)
		<-ctx.Done() // a handler that only gives up when told to
		return ctx.Err()
	})
	n1.Publish(w.topics.Of(mqtt.KindTele, "n1", ""), 1, false, "{}")
	<-entered
	begin := time.Now()
	if err := w.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(begin); took > patience/2 { // 5 s when nothing else is to do
		t.Errorf("stop took %s; wanted one that waits for no handler", took)
	}
	if pk, err := five.read(patience); err != nil || pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrServerShuttingDown.Code {
		t.Errorf("MQTT 5 client got %+v, %#x, %v; wanted DISCONNECT 0x8b", pk.FixedHeader, pk.ReasonCode, err)
	}
	if got := w.happened(); !slices.Contains(got, "lose n1: "+broker.ErrStopping.Error()) || !slices.Contains(got, "lose operator:five: "+broker.ErrStopping.Error()) {
		t.Errorf("told %q; wanted the end of both sessions", got)
	}
	w.mu.Lock()
	if len(w.handled) != 0 {
		t.Errorf("handled %+v; a stopping broker is no reason for a will", w.handled)
	}
	w.mu.Unlock()
	if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindAck, "n1", ""), []byte("{}"), false); err == nil {
		t.Error("a stopped broker publishes")
	}
	eventually(t, "all goroutines of the broker end", func() bool { return brokerGoroutines() <= before })
}

// brokerGoroutines counts the goroutines that run ours or mochi's code, tests apart.
func brokerGoroutines() int {
	buf := make([]byte, 1<<20)
	n := 0
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "mochi-mqtt/server/v2.") || strings.Contains(stack, "mqtt/broker.(") {
			n++
		}
	}
	return n
}

func TestStopSendsWhatIsSaidLastToASlowReader(t *testing.T) {
	w := newWorld(t)
	var last []*raw
	begin := time.Now()
	for i := range 20 {
		r := w.dial(w.tls(person(fmt.Sprintf("p%d", i), api.RoleViewer)))
		r.version = 5
		r.connect("x")
		last = append(last, r)
	}
	coming := time.Since(begin) // which is much more work
	begin = time.Now()
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 2*time.Second+coming {
		t.Errorf("stop took %s with nothing to wait for", took)
	}
	for _, r := range last {
		if pk, err := r.read(patience); err != nil || pk.FixedHeader.Type != packets.Disconnect {
			t.Fatalf("got %+v, %v; wanted DISCONNECT", pk.FixedHeader, err)
		}
	}
}

func TestAHealthyBrokerIsSilent(t *testing.T) {
	w := newWorld(t)
	seen := w.reads(w.join(person("eve", api.RoleViewer)), w.topics.All())
	n1 := w.join(node("n1"))
	w.send(n1, w.topics.Of(mqtt.KindState, "n1", ""), "online", true)
	next(t, seen)
	n1.Disconnect(100)
	eventually(t, "clean end", func() bool { return slices.Contains(w.happened(), "disconnect n1") })
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if got := w.log.String(); got != "" {
		t.Errorf("log: %s", got)
	}
}

func TestNewNamesEveryFaultOfItsConfiguration(t *testing.T) {
	_, err := broker.New(broker.Config{Addr: "nowhere", Limits: broker.Limits{Window: -1}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"nowhere", "window", "Authorize", "TLS", "cluster"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	w := newWorld(t)
	cfg := broker.Config{Addr: "127.0.0.1:0", TLS: &tls.Config{Certificates: []tls.Certificate{w.ca.server(t)}}}
	if _, err := broker.New(cfg); err == nil || !strings.Contains(err.Error(), "client CAs") {
		t.Errorf("without client CAs: %v", err)
	}
}

func TestTLSIsReloadedForEachConnection(t *testing.T) {
	var served *tls.Config
	w := newWorld(t, func(c *broker.Config) {
		served = c.TLS
		weak := c.TLS.Clone()
		weak.MinVersion, weak.ClientAuth = tls.VersionTLS10, tls.NoClientCert
		c.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return weak, nil }}
	})
	w.join(node("n1"))
	cfg := w.tlsWith()
	r := paho.NewClient(paho.NewClientOptions().AddBroker("ssl://" + w.Addr().String()).SetTLSConfig(cfg).SetClientID("n2"))
	if err := settle(r.Connect()); err == nil {
		t.Error("a reloaded configuration let in a client without a certificate")
	}
	old := w.tls(node("n3"))
	old.MaxVersion = tls.VersionTLS12
	if conn, err := tls.Dial("tcp", w.Addr().String(), old); err == nil {
		_ = conn.Close()
		t.Error("a reloaded configuration let in TLS 1.2")
	}
	if served == nil {
		t.Error("configuration was not used")
	}
}
