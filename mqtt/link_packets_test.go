package mqtt

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLinkAsksForASignOfLifeOnceAKeepalive holds a link that neither side has anything to say on, and one on which only
// the node speaks and the broker acknowledges.
func TestLinkAsksForASignOfLifeOnceAKeepalive(t *testing.T) {
	for name, c := range map[string]struct {
		publishEvery time.Duration
		min, max     int // pings in an hour
	}{"idle": {0, 59, 60}, "busy": {20 * time.Second, 0, 1}} {
		synctest.Test(t, func(t *testing.T) {
			pings := 0
			downs := make(chan error, 1)
			l, err := NewLink(LinkConfig{Servers: []string{"tcp://broker"}, ClientID: "node", OnDown: func(err error) { downs <- err },
				Dial: scripted(func(conn net.Conn) {
					if _, _, err := readPacket(conn); err != nil {
						return
					}
					_, _ = conn.Write([]byte{0x20, 2, 0, 0})
					for {
						kind, body, err := readPacket(conn)
						if err != nil {
							return
						}
						switch kind {
						case 12:
							pings++
							_, _ = conn.Write([]byte{0xd0, 0})
						case 3: // a topic of one character, then the packet id
							_, _ = conn.Write([]byte{0x40, 2, body[3], body[4]})
						case 14:
							return
						}
					}
				})})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- l.Run(ctx) }()
			if err := l.AwaitUp(ctx); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(time.Hour); time.Now().Before(end); {
				if c.publishEvery == 0 {
					time.Sleep(time.Hour)
					break
				}
				if err := l.Publish(ctx, "t", []byte("x"), false); err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.publishEvery)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if err := <-downs; err != nil || pings < c.min || pings > c.max {
				t.Errorf("%s: %d pings in an hour, ended by %v; wanted %d to %d", name, pings, err, c.min, c.max)
			}
			synctest.Wait()
		})
	}
}

func TestLinkDropsABrokerThatSaysNonsense(t *testing.T) {
	for what, c := range map[string]struct{ packet, want string }{
		"packet id 0":         {"\x32\x05\x00\x01t\x00\x00", `"t" with packet id 0`},
		"no topic":            {"\x30\x02\x00\x00", "without a topic"},
		"wildcard +":          {"\x30\x05\x00\x03t/+", "without wildcards"},
		"wildcard #":          {"\x32\x07\x00\x03t/#\x00\x01", "without wildcards"},
		"NUL":                 {"\x30\x05\x00\x03t/\x00", "without wildcards and NUL"},
		"not UTF-8":           {"\x30\x05\x00\x03t/\xff", "wanted UTF-8"},
		"a SUBACK of another": {"\x90\x02\x00\x02", "SUBACK of packet id 2; wanted 65534"},
		"QoS 2":               {"\x34\x06\x00\x01t\x00\x01x", "QoS 2; at most 1"},
		"a SUBACK for nobody": {"\x90\x02\xff\xfe\x90\x02\xff\xfe", "SUBACK that nobody waits for"},
		"a packet of clients": {"\xc0\x00", "PingreqPacket"},
		"a second CONNACK":    {"\x20\x02\x00\x00", "ConnackPacket"},
	} {
		synctest.Test(t, func(t *testing.T) {
			downs := make(chan error, 4)
			l, err := NewLink(LinkConfig{Servers: []string{"tcp://broker"}, ClientID: "node", OnDown: func(err error) { downs <- err },
				Dial: scripted(func(conn net.Conn) {
					if _, _, err := readPacket(conn); err == nil {
						_, _ = conn.Write([]byte{0x20, 2, 0, 0})
						time.Sleep(time.Second)
						_, _ = conn.Write([]byte(c.packet))
						_, _ = io.Copy(io.Discard, conn)
					}
				})})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- l.Run(ctx) }()
			if err := <-downs; err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v; wanted an end that says %q", what, err, c.want)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			synctest.Wait()
		})
	}
}

// TestLinkNumbersItsPublishesInTurn goes once round the packet ids while one of them stays in use.
func TestLinkNumbersItsPublishesInTurn(t *testing.T) {
	s := &Session{pending: map[uint16]*Receipt{}}
	held := &Receipt{acked: make(chan struct{})}
	first := s.number(held)
	for range 1 << 16 {
		r := &Receipt{acked: make(chan struct{})}
		id := s.number(r)
		if id == 0 || id == first {
			t.Fatalf("id %d was given away; %d is in use", id, first)
		}
		s.acked(id)
		s.acked(id) // the broker says it twice
	}
	s.acked(first)
	select {
	case <-held.acked:
	default:
		t.Error("the PUBACK of the first went astray")
	}
}

// TestAnIdleLinkKeepsOneGoroutine beside the one that runs it: thousands of links may be in one process.
func TestAnIdleLinkKeepsOneGoroutine(t *testing.T) {
	b := startMochi(t, nil, nil)
	x := tap(t, b, b.addr, "node", "t/#", nil).awaitUp(t)
	if err := x.Publish(t.Context(), "t/x", []byte("x"), false); err != nil {
		t.Fatal(err)
	}
	x.next(t)
	until(t, "the others to end", func() bool {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		return strings.Count(stacks, "\ncreated by sync.(*WaitGroup).Go") == 1 && strings.Contains(stacks, "mqtt.(*Session).read(")
	})
}

// TestALinkKeepsTheGoroutinesItWasToldTo has it send, complete and handle, twice, and then stop.
func TestALinkKeepsTheGoroutinesItWasToldTo(t *testing.T) {
	b := startMochi(t, nil, nil)
	x := tap(t, b, b.addr, "node", "t/#", func(c *LinkConfig) { c.Keep = 3 }).awaitUp(t)
	kept := func() int {
		buf := make([]byte, 1<<20)
		return strings.Count(string(buf[:runtime.Stack(buf, true)]), "agent.(*Crew).wait(")
	}
	for range 2 {
		if err := x.Publish(t.Context(), "t/x", []byte("x"), false); err != nil {
			t.Fatal(err)
		}
		x.next(t)
		until(t, "one to wait, or up to three", func() bool { n := kept(); return n >= 1 && n <= 3 })
	}
	x.stop()
	if n := kept(); n != 0 {
		t.Errorf("%d wait after the stop", n)
	}
}

// TestLinkTakesNoSubackButItsOwn has the broker grant a subscription that nobody asked for, and more than was asked for.
func TestLinkTakesNoSubackButItsOwn(t *testing.T) {
	for answer, want := range map[string]string{"\x90\x03\x00\x07\x01": "SUBACK of packet id 7; wanted 65534",
		"\x90\x04\xff\xfe\x01\x01": "SUBACK of 4 bytes; wanted 3"} {
		x := tap(t, &brokerEnd{scheme: "tcp"}, "broker", "node", "t/#", func(c *LinkConfig) {
			c.BackoffMin, c.BackoffMax = time.Hour, time.Hour
			c.Dial = scripted(func(conn net.Conn) {
				for _, say := range []string{"\x20\x02\x00\x00", answer} {
					if _, _, err := readPacket(conn); err != nil {
						return
					}
					_, _ = conn.Write([]byte(say))
				}
				_, _, _ = readPacket(conn)
			})
		})
		until(t, "a first failure", func() bool { return x.Status().LastError != "" })
		if st := x.Status(); st.Connected || !strings.Contains(st.LastError, want) {
			t.Errorf("status %+v; wanted %q [MQTT-3.8.4-2]", st, want)
		}
	}
}

func TestLinkRefusesASessionThatTheBrokerKept(t *testing.T) {
	x := tap(t, &brokerEnd{scheme: "tcp"}, "broker", "node", "", func(c *LinkConfig) {
		c.BackoffMin, c.BackoffMax = time.Hour, time.Hour
		c.Dial = scripted(func(conn net.Conn) {
			if _, _, err := readPacket(conn); err == nil {
				_, _ = conn.Write([]byte{0x20, 2, 1, 0})
			}
		})
	})
	until(t, "a first failure", func() bool { return x.Status().LastError != "" })
	if st := x.Status(); st.Connected || !strings.Contains(st.LastError, "clean one was asked for") {
		t.Errorf("status %+v; wanted a refusal of the old session [MQTT-3.2.2-1]", st)
	}
}
