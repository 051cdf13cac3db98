package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestLinkOnMochi(t *testing.T) {
	linkConformance(t, func(t *testing.T) *brokerEnd { return startMochi(t, nil, nil) })
}

func TestLinkOnMochiTLS(t *testing.T) {
	server, client := selfSigned(t)
	linkConformance(t, func(t *testing.T) *brokerEnd { return startMochi(t, server, client) })
}

func TestPeerLinkOnMosquitto(t *testing.T) {
	linkConformance(t, startMosquitto)
}

// linkConformance is what a link promises on any broker.
func linkConformance(t *testing.T, startBroker func(t *testing.T) *brokerEnd) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, b *brokerEnd)
	}{
		{"publishes in order", conformOrder},
		{"carries 128 KiB", conformLarge},
		{"comes back after the broker forgot everything", conformRestart},
		{"will of the right epoch after a torn connection", conformWill},
		{"clean stop says goodbye and leaves no will", conformGoodbye},
		{"half-open connection is noticed", conformHalfOpen},
		{"takeover by the same client id", conformTakeover},
		{"handler error costs the connection", conformRefuse},
		{"discarded message does not", conformDiscard},
		{"full queue costs the connection", conformOverflow},
		{"full queue by bytes does too", conformOverflowBytes},
		{"window bounds what is in flight, a cut fails it", conformWindow},
		{"tells each outcome once, before its stop ends", conformThen},
		{"subscribes and unsubscribes in the course of a session", conformLater},
		{"sets TCP_NODELAY", conformNoDelay},
		{"leaves no goroutine", conformLeak},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, startBroker(t)) })
	}
}

func conformOrder(t *testing.T, b *brokerEnd) {
	const n = 500
	// A busy machine may read all of them before it handles one: a full queue costs the connection, which is another test's.
	watch := tap(t, b, b.addr, "watch", "t/#", func(c *LinkConfig) { c.Queue = n }).awaitUp(t)
	link := tap(t, b, b.addr, "node", "", nil).awaitUp(t)
	var receipts []*Receipt
	for i := range n {
		r, err := link.PublishAsync(t.Context(), "t/x", fmt.Append(nil, i), false)
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, r)
	}
	for _, r := range receipts {
		if err := r.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if m := watch.next(t); string(m.Payload) != fmt.Sprint(i) || m.Topic != "t/x" {
			t.Fatalf("message %d is %s on %s", i, m.Payload, m.Topic)
		}
	}
	if st := link.Status(); st.Published != n || !st.Connected || st.BytesOut < n*8 || st.BytesIn == 0 || st.Attempts != 1 {
		t.Errorf("status %+v", st)
	}
}

func conformLarge(t *testing.T, b *brokerEnd) {
	link := tap(t, b, b.addr, "node", "t/#", nil).awaitUp(t)
	payload := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	if err := link.Publish(t.Context(), "t/large", payload, false); err != nil {
		t.Fatal(err)
	}
	if m := link.next(t); !bytes.Equal(m.Payload, payload) {
		t.Errorf("%d bytes came back; wanted the same %d", len(m.Payload), len(payload))
	}
	if err := link.Publish(t.Context(), "t/large", make([]byte, MaxPacketBytes), false); err == nil || errors.Is(err, ErrDown) {
		t.Errorf("a packet beyond the limit: %v", err)
	}
	if err := link.Publish(t.Context(), "t/+", nil, false); err == nil || !strings.Contains(err.Error(), "without wildcards") {
		t.Errorf("a wildcard: %v", err)
	}
}

func conformRestart(t *testing.T, b *brokerEnd) {
	var announced atomic.Int32
	link := tap(t, b, b.addr, "node", "t/#", func(c *LinkConfig) {
		c.Announce = func(ctx context.Context, s *Session) error {
			return s.Publish(ctx, "t/birth", fmt.Append(nil, announced.Add(1)), true)
		}
	}).awaitUp(t)
	if m := link.next(t); string(m.Payload) != "1" {
		t.Fatalf("birth %s", m.Payload)
	}
	b.stop()
	if err := receive(t, link.downs, "the loss"); err == nil {
		t.Error("the loss has no cause")
	}
	if err := link.Publish(t.Context(), "t/x", nil, false); !errors.Is(err, ErrDown) {
		t.Errorf("publish while down: %v", err)
	}
	until(t, "several attempts", func() bool { return link.Status().Attempts > 3 })
	b.start()
	link.awaitUp(t)
	if m := link.next(t); m.Topic != "t/birth" || string(m.Payload) != "2" {
		t.Fatalf("first message after the restart is %s on %s; wanted the second birth", m.Payload, m.Topic)
	}
	if st := link.Status(); st.Reconnects != 1 || st.LastError == "" {
		t.Errorf("status %+v", st)
	}
}

func conformWill(t *testing.T, b *brokerEnd) {
	watch := tap(t, b, b.addr, "watch", "t/state", nil).awaitUp(t)
	p := startProxy(t, b.addr)
	epoch := 0
	link := tap(t, b, p.addr, "node", "", func(c *LinkConfig) {
		c.Begin = func(context.Context) (Outbound, error) {
			epoch++
			return Outbound{"t/state", fmt.Appendf(nil, "lost %d", epoch), true}, nil
		}
		c.Announce = func(ctx context.Context, s *Session) error {
			return s.Publish(ctx, "t/state", fmt.Appendf(nil, "online %d", epoch), true)
		}
	})
	last := ""
	for i := 1; i <= 3; i++ {
		p.resume()
		link.awaitUp(t)
		for _, want := range []string{"online", "lost"} {
			m := watch.next(t)
			for ; last != "" && string(m.Payload) == last; m = watch.next(t) { // QoS 1: the broker may say it twice
			}
			if last = string(m.Payload); last != fmt.Sprintf("%s %d", want, i) {
				t.Fatalf("state %q; wanted %s %d", m.Payload, want, i)
			}
			if want == "online" {
				p.stall() // or the next session might be announced before the broker has noticed the end of this one
				p.cut()
			}
		}
		receive(t, link.downs, "the loss")
	}
}

func conformGoodbye(t *testing.T, b *brokerEnd) {
	watch := tap(t, b, b.addr, "watch", "t/#", nil).awaitUp(t)
	link := tap(t, b, b.addr, "node", "", func(c *LinkConfig) {
		c.Begin = func(context.Context) (Outbound, error) { return Outbound{"t/state", []byte("lost"), false}, nil }
		c.Goodbye = func() (Outbound, bool) { return Outbound{"t/state", []byte("offline"), true}, true }
	}).awaitUp(t)
	link.stop()
	if err := receive(t, link.downs, "the end"); err != nil {
		t.Errorf("clean stop ended with %v", err)
	}
	if m := watch.next(t); string(m.Payload) != "offline" {
		t.Fatalf("%q; wanted the goodbye", m.Payload)
	}
	// A client of the same id would force a pending will out before it is itself let in.
	again := tap(t, b, b.addr, "node", "", nil).awaitUp(t)
	if err := again.Publish(t.Context(), "t/marker", nil, false); err != nil {
		t.Fatal(err)
	}
	m := watch.next(t)
	for ; string(m.Payload) == "offline"; m = watch.next(t) { // QoS 1: the broker may say it twice
	}
	if m.Topic != "t/marker" {
		t.Errorf("%q on %s after the goodbye; wanted nothing", m.Payload, m.Topic)
	}
}

func conformHalfOpen(t *testing.T, b *brokerEnd) {
	p := startProxy(t, b.addr)
	link := tap(t, b, p.addr, "node", "", func(c *LinkConfig) { c.KeepAlive, c.Patience = 2*time.Second, 3*time.Second }).awaitUp(t)
	p.stall()
	start := time.Now()
	err := receive(t, link.downs, "the loss")
	if took := time.Since(start); took > linkPatience/2 || !strings.Contains(err.Error(), "nothing passed for 3s") {
		t.Errorf("noticed after %s: %v; wanted its patience of 3 s", took, err)
	}
	p.resume()
	link.awaitUp(t)
}

func conformTakeover(t *testing.T, b *brokerEnd) {
	first := tap(t, b, b.addr, "node", "", func(c *LinkConfig) { c.BackoffMin, c.BackoffMax = time.Hour, time.Hour }).awaitUp(t)
	second := tap(t, b, b.addr, "node", "t/#", nil).awaitUp(t)
	if err := receive(t, first.downs, "the takeover"); err == nil {
		t.Error("the takeover has no cause")
	}
	if err := second.Publish(t.Context(), "t/x", []byte("mine"), false); err != nil {
		t.Fatal(err)
	}
	if m := second.next(t); string(m.Payload) != "mine" {
		t.Errorf("%q", m.Payload)
	}
}

func conformRefuse(t *testing.T, b *brokerEnd) {
	var calls atomic.Int32
	got := make(chan string, 8)
	link := tap(t, b, b.addr, "node", "", func(c *LinkConfig) {
		c.Subscriptions = []Subscription{{"t/#", func(_ context.Context, m Inbound) error {
			if calls.Add(1) == 1 {
				return errors.New("disk is full")
			}
			got <- string(m.Payload)
			return nil
		}}}
	}).awaitUp(t)
	watch := tap(t, b, b.addr, "watch", "", nil).awaitUp(t)
	if err := watch.Publish(t.Context(), "t/desired", []byte("generation 7"), true); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, link.downs, "the drop"); err == nil || !strings.Contains(err.Error(), "handle t/desired: disk is full") {
		t.Errorf("dropped because of %v", err)
	}
	if m := receive(t, got, "the message, again"); m != "generation 7" {
		t.Errorf("%q", m)
	}
	if st := link.Status(); st.Refused != 1 || st.Discarded != 0 {
		t.Errorf("status %+v", st)
	}
}

func conformDiscard(t *testing.T, b *brokerEnd) {
	got := make(chan string, 8)
	link := tap(t, b, b.addr, "node", "", func(c *LinkConfig) {
		c.Queue = 200 // for a machine that handles none before it has read all
		c.Subscriptions = []Subscription{{"t/#", func(_ context.Context, m Inbound) error {
			if string(m.Payload) == "poison" {
				return fmt.Errorf("not JSON: %w", ErrDiscard)
			}
			got <- string(m.Payload)
			return nil
		}}}
	}).awaitUp(t)
	for range 100 { // more than a broker leaves unacknowledged
		if err := link.Publish(t.Context(), "t/x", []byte("poison"), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := link.Publish(t.Context(), "t/x", []byte("good"), false); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, got, "the good one"); m != "good" {
		t.Errorf("%q", m)
	}
	if st := link.Status(); st.Discarded != 100 || st.Reconnects != 0 {
		t.Errorf("status %+v", st)
	}
}

func conformOverflow(t *testing.T, b *brokerEnd) {
	link := tap(t, b, b.addr, "node", "", func(c *LinkConfig) {
		c.Queue = 2
		c.Subscriptions = []Subscription{{"t/#", func(ctx context.Context, _ Inbound) error {
			<-ctx.Done()
			return ctx.Err()
		}}}
	}).awaitUp(t)
	watch := tap(t, b, b.addr, "watch", "", nil).awaitUp(t)
	for range 4 {
		if err := watch.Publish(t.Context(), "t/x", nil, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := receive(t, link.downs, "the drop"); err == nil || !strings.Contains(err.Error(), "queue is full with 2") {
		t.Errorf("dropped because of %v", err)
	}
	link.awaitUp(t)
	if st := link.Status(); st.Overflows != 1 || st.Refused != 0 {
		t.Errorf("status %+v", st)
	}
}

func conformOverflowBytes(t *testing.T, b *brokerEnd) {
	handle := make(chan struct{})
	link := tap(t, b, b.addr, "node", "", func(c *LinkConfig) {
		c.QueueBytes = 100 << 10
		c.Subscriptions = []Subscription{{"t/#", func(ctx context.Context, _ Inbound) error {
			select {
			case handle <- struct{}{}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}}
	}).awaitUp(t)
	watch := tap(t, b, b.addr, "watch", "", nil).awaitUp(t)
	say := func(bytes int) {
		t.Helper()
		if err := watch.Publish(t.Context(), "t/x", make([]byte, bytes), false); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 { // more in all than it holds at once; and each alone is more
		say(120 << 10)
		receive(t, handle, "a handler")
		for since := time.Now(); link.holds() > 0; time.Sleep(time.Millisecond) { // until the handler has returned
			if time.Since(since) > 15*time.Second {
				t.Fatalf("%d bytes of a message that is handled still count", link.holds())
			}
		}
	}
	for range 3 {
		say(40 << 10)
	}
	if err := receive(t, link.downs, "the drop"); err == nil || !strings.Contains(err.Error(), "queue is full with 81926 bytes") {
		t.Errorf("dropped because of %v", err)
	}
	if st := link.Status(); st.Overflows != 1 {
		t.Errorf("status %+v", st)
	}
}

func conformLater(t *testing.T, b *brokerEnd) {
	got, sessions := make(chan string, 8), make(chan *Session, 1)
	tap(t, b, b.addr, "node", "", func(c *LinkConfig) {
		c.Later = []Subscription{{"t/+", func(_ context.Context, m Inbound) error {
			got <- m.Topic + string(m.Payload)
			return nil
		}}}
		c.Announce = func(_ context.Context, s *Session) error {
			sessions <- s
			return nil
		}
	}).awaitUp(t)
	s := receive(t, sessions, "the session")
	watch := tap(t, b, b.addr, "watch", "", nil).awaitUp(t)
	say := func(topic, text string, retain bool) {
		t.Helper()
		if err := watch.Publish(t.Context(), topic, []byte(text), retain); err != nil {
			t.Fatal(err)
		}
	}
	say("t/a", "kept", true)
	many := []string{"t/a"}
	for i := range 2 * maxFilters { // more than one SUBSCRIBE holds
		many = append(many, fmt.Sprintf("t/x%d", i))
	}
	if err := s.Subscribe(t.Context(), many...); err != nil {
		t.Fatal(err)
	}
	// QoS 1 is at least once: a message may come again, until the one that is waited for.
	next := func(want string, again ...string) {
		t.Helper()
		for {
			m := receive(t, got, want)
			if m == want {
				return
			}
			if !slices.Contains(again, m) {
				t.Fatalf("%q; wanted %q", m, want)
			}
		}
	}
	next("t/akept")
	say("t/b", "not asked for", false)
	say("t/x511", "last", false)
	next("t/x511last", "t/akept")
	if err := s.Unsubscribe(t.Context(), many[:len(many)-1]...); err != nil {
		t.Fatal(err)
	}
	say("t/a", "no more", false)
	say("t/x511", "still", false)
	next("t/x511still", "t/akept", "t/x511last")
}

// conformThen counts what is told of publishes that are acknowledged, and of those that the stop cuts off.
func conformThen(t *testing.T, b *brokerEnd) {
	p := startProxy(t, b.addr)
	link := tap(t, b, p.addr, "node", "", nil).awaitUp(t)
	const n = 20
	told := make([]atomic.Int32, 2*n)
	var good, down atomic.Int32
	publish := func(i int) {
		t.Helper()
		if err := link.PublishThen(t.Context(), "t/x", nil, func(err error) {
			told[i].Add(1)
			if err == nil {
				good.Add(1)
			} else if errors.Is(err, ErrDown) {
				down.Add(1)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		publish(i)
	}
	if err := link.Publish(t.Context(), "t/x", nil, false); err != nil { // in order: all before it are acknowledged
		t.Fatal(err)
	}
	p.stall()
	for i := range n {
		publish(n + i)
	}
	p.cut()
	if err := receive(t, link.downs, "the cut"); err == nil {
		t.Error("no reason for the cut")
	}
	for i := range told {
		if got := told[i].Load(); got != 1 {
			t.Errorf("publish %d: told %d times; wanted once by now", i, got)
		}
	}
	if good.Load() != n || down.Load() != n {
		t.Errorf("%d good, %d down; wanted %d each", good.Load(), down.Load(), n)
	}
	if err := link.PublishThen(t.Context(), "t/#", nil, func(error) { t.Error("told of what was never sent") }); err == nil {
		t.Error("a wildcard is published to")
	}
}

func conformWindow(t *testing.T, b *brokerEnd) {
	p := startProxy(t, b.addr)
	link := tap(t, b, p.addr, "node", "", func(c *LinkConfig) {
		c.Window, c.KeepAlive, c.Patience, c.AckTimeout = 4, time.Hour, 2*time.Hour, time.Hour // so that nothing but the cut ends it
	}).awaitUp(t)
	p.stall()
	var receipts []*Receipt
	for range 4 {
		r, err := link.PublishAsync(t.Context(), "t/x", nil, false)
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := link.PublishAsync(ctx, "t/x", nil, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a fifth publish: %v; wanted it to wait", err)
	}
	p.resume() // what is under way may pass; the cut comes at once
	p.cut()
	for i, r := range receipts {
		receive(t, r.Done(), "the outcome of what is in flight")
		if err := r.Err(); err != nil && !errors.Is(err, ErrDown) {
			t.Errorf("publish %d: %v; wanted ErrDown", i, err)
		}
	}
}

func conformNoDelay(t *testing.T, b *brokerEnd) {
	sockets := make(chan *net.TCPConn, 16)
	tap(t, b, b.addr, "node", "", func(c *LinkConfig) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			tcp := conn.(*net.TCPConn)
			sockets <- tcp
			return tcp, tcp.SetNoDelay(false) // a link that relies on a default is caught
		}
	}).awaitUp(t)
	raw, err := receive(t, sockets, "the socket").SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY); err != nil || v != 1 {
			t.Errorf("TCP_NODELAY is %d, %v", v, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// conformLeak ends links in every way and looks for what they left.
func conformLeak(t *testing.T, b *brokerEnd) {
	p := startProxy(t, b.addr)
	for i := range 12 {
		link := tap(t, b, p.addr, "node", "t/#", nil).awaitUp(t)
		for range 20 {
			if _, err := link.PublishAsync(t.Context(), "t/x", make([]byte, 1000), false); err != nil && !errors.Is(err, ErrDown) {
				t.Fatal(err)
			}
		}
		switch i % 3 {
		case 0:
			p.cut()
		case 1:
			p.stall()
		}
		link.stop()
		p.resume()
	}
	until(t, "no goroutine of a link or of the library is left", func() bool {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(stacks, "paho.mqtt.golang") && !strings.Contains(stacks, "mqtt.(*Session)")
	})
}
