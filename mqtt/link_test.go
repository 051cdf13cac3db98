package mqtt

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewLinkReportsAllFaultsAtOnce(t *testing.T) {
	_, err := NewLink(LinkConfig{
		Servers:   []string{"mqtts://host", "http://host", "tcp://user:secret@host", "tcp://"},
		Password:  "p",
		KeepAlive: 1500 * time.Millisecond, Patience: time.Second, Shards: 2, Queue: -1,
		Subscriptions: []Subscription{{Filter: "a"}},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`server "mqtts://host": its scheme wants a TLS configuration`, `scheme "http"; wanted mqtts`, `server "tcp://"`,
		"client id is empty", "password without a user name", "keepalive 1.5s", "patience 1s", "2 shards without", "queue -1", `subscriptions[0] "a"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("error repeats a password:\n%v", err)
	}
	for text, addr := range map[string]string{"tls://h": "h:8883", "tcp://h": "h:1883", "mqtts://[::1]:1": "[::1]:1"} {
		if s, err := parseServer(text); err != nil || s.addr != addr {
			t.Errorf("%s: %s, %v; wanted %s", text, s.addr, err, addr)
		}
	}
}

func TestFilterMatchesAsTheStandardSays(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/b", "a", false}, {"a", "a/b", false}, {"a/+", "a/b", true},
		{"a/+", "a", false}, {"a/+", "a/", true}, {"+/b", "a/b", true}, {"a/#", "a", true}, {"a/#", "a/b/c", true},
		{"a/#", "ab", false}, {"#", "a/b", true}, {"#", "$SYS/x", false}, {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true},
		{"a/+/c", "a/b/c", true}, {"a/+/c", "a/b/d", false}, {"a//c", "a//c", true}, {"+", "a/b", false},
	} {
		if got := matches(c.filter, c.topic); got != c.want {
			t.Errorf("filter %s, topic %s: %v", c.filter, c.topic, got)
		}
	}
}

func TestGuardRefusesWhatWouldHurtTheLibrary(t *testing.T) {
	for _, c := range []struct{ name, packets, want string }{
		{"fine", "\x20\x02\x00\x00\x90\x04\x00\x01\x01\x01\xd0\x00\x30\x80\x01" + strings.Repeat("x", 128) + "\xd0\x00", ""},
		{"huge", "\x30\xff\xff\xff\x7f", "wanted at most"},
		{"endless length", "\x30\xff\xff\xff\xff\x01", "wanted at most"},
		{"reserved type", "\x00\x00", "reserved type"},
		{"long SUBACK", "\x90\x05\x00\x01\x01\x01\x01", "SUBACK of 5 bytes; wanted 4"},
	} {
		for step := 1; step <= 3; step++ {
			g := guard{}
			g.subscriptions.Store(2)
			var err error
			for rest := c.packets; rest != "" && err == nil; {
				n := min(step, len(rest))
				err = g.feed([]byte(rest[:n]))
				rest = rest[n:]
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %d bytes at a time: %v; wanted %q", c.name, step, err, c.want)
			}
		}
	}
}

func TestLinkNamesTheRefusal(t *testing.T) {
	for code, want := range map[byte]string{1: "protocol version", 2: "client id rejected", 3: "server unavailable",
		4: "bad user name or password", 5: "not authorised", 9: "unknown return code"} {
		b := &brokerEnd{scheme: "tcp"}
		x := tap(t, b, "broker", "node", "", func(c *LinkConfig) {
			c.Dial = scripted(func(conn net.Conn) {
				if _, _, err := readPacket(conn); err == nil {
					_, _ = conn.Write([]byte{0x20, 2, 0, code})
				}
			})
		})
		until(t, "a first failure", func() bool { return x.Status().LastError != "" })
		if st := x.Status(); st.Connected || !strings.Contains(st.LastError, want) && code != 9 {
			t.Errorf("CONNACK %d: %+v; wanted an error that says %q", code, st, want)
		}
		x.stop()
	}
}

// accepting plays a broker without subscriptions: it accepts, answers pings, hands over the rest, ends after d.
func accepting(d time.Duration, rest func(conn net.Conn, kind byte, body []byte)) func(net.Conn) {
	return func(conn net.Conn) {
		if _, _, err := readPacket(conn); err != nil {
			return
		}
		if _, err := conn.Write([]byte{0x20, 2, 0, 0}); err != nil {
			return
		}
		end := time.AfterFunc(d, func() { conn.Close() })
		defer end.Stop()
		for {
			kind, body, err := readPacket(conn)
			if err != nil {
				return
			}
			switch kind {
			case 12:
				_, err = conn.Write([]byte{0xd0, 0})
			case 14:
				return
			default:
				rest(conn, kind, body)
			}
			if err != nil {
				return
			}
		}
	}
}

func TestLinkBackoffResetsOnlyAfterAStableSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sessions atomic.Int32
		hold := func() time.Duration {
			if sessions.Add(1) == 6 {
				return 61 * time.Second
			}
			return 59 * time.Second
		}
		attempts := make(chan int, 16)
		var l *Link
		cfg := LinkConfig{Servers: []string{"tcp://broker"}, ClientID: "node", OnDown: func(error) { attempts <- l.backoff.Attempt() },
			Dial: scripted(func(conn net.Conn) { accepting(hold(), nil)(conn) })}
		l, err := NewLink(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		for i, want := range []int{0, 1, 2, 3, 4, 5, 1, 2} { // OnDown comes before the wait is chosen
			if got := <-attempts; got != want {
				t.Errorf("after session %d the backoff had grown %d times; wanted %d", i+1, got, want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}

func TestLinkDropsABrokerThatDoesNotAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		downs := make(chan error, 4)
		l, err := NewLink(LinkConfig{Servers: []string{"tcp://broker"}, ClientID: "node", AckTimeout: 20 * time.Second,
			OnDown: func(err error) { downs <- err },
			Dial:   scripted(accepting(time.Hour, func(net.Conn, byte, []byte) {}))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		if err := l.AwaitUp(ctx); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := l.Publish(ctx, "t", nil, false); !errors.Is(err, ErrDown) || time.Since(start) != 20*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		if err := <-downs; !strings.Contains(err.Error(), "no PUBACK for t within 20s") {
			t.Errorf("down because of %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}

func TestLinkNoticesAMuteBroker(t *testing.T) {
	const s = time.Second
	for _, c := range []struct{ keepAlive, patience, want time.Duration }{ // an answer has at least 10 s
		{s, 0, 11 * s}, {10 * s, 0, 20 * s}, {20 * s, 0, 30 * s}, {60 * s, 0, 90 * s}, {600 * s, 0, 900 * s}, {0, 0, 90 * s}, {s, 2 * s, 2 * s},
	} {
		synctest.Test(t, func(t *testing.T) {
			downs := make(chan time.Time, 4)
			l, err := NewLink(LinkConfig{Servers: []string{"tcp://broker"}, ClientID: "node", KeepAlive: c.keepAlive, Patience: c.patience,
				OnDown: func(error) { downs <- time.Now() },
				Dial: scripted(func(conn net.Conn) {
					if _, _, err := readPacket(conn); err == nil {
						_, _ = conn.Write([]byte{0x20, 2, 0, 0})
						_, _ = io.Copy(io.Discard, conn)
					}
				})})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- l.Run(ctx) }()
			start := time.Now()
			if took := (<-downs).Sub(start); took != c.want {
				t.Errorf("keepalive %s: noticed after %s; wanted %s", c.keepAlive, took, c.want)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			synctest.Wait()
		})
	}
}

func TestLinkTriesItsServersInTurn(t *testing.T) {
	good := startMochi(t, nil, nil)
	x := tap(t, good, good.addr, "node", "", func(c *LinkConfig) {
		c.Servers = []string{"tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://" + good.addr}
	}).awaitUp(t)
	if st := x.Status(); st.Attempts != 3 || st.Server != "tcp://"+good.addr || !strings.Contains(st.LastError, "connect tcp://127.0.0.1:2") {
		t.Errorf("status %+v", st)
	}
}

func TestLinkShardsKeepTheirOrder(t *testing.T) {
	b := startMochi(t, nil, nil)
	slow := make(chan struct{})
	got := make(chan string, 8)
	x := tap(t, b, b.addr, "node", "", func(c *LinkConfig) {
		c.Shards, c.Shard = 2, func(topic string) uint32 { return uint32(topic[len(topic)-1]) }
		c.Subscriptions = []Subscription{{"t/#", func(ctx context.Context, m Inbound) error {
			if m.Topic == "t/0" {
				select {
				case <-slow:
				case <-ctx.Done():
				}
			}
			got <- m.Topic + string(m.Payload)
			return nil
		}}}
	}).awaitUp(t)
	for _, m := range []string{"t/0a", "t/0b", "t/1a", "t/1b"} {
		if err := x.Publish(t.Context(), m[:3], []byte(m[3:]), false); err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	for i := range 4 {
		if i == 2 {
			close(slow)
		}
		order = append(order, receive(t, got, "a handler"))
	}
	if s := strings.Join(order, " "); s != "t/1a t/1b t/0a t/0b" {
		t.Errorf("handled %s", s)
	}
}
