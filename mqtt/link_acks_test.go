package mqtt

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// granting plays a broker that accepts, grants one subscription, says what say writes and hands over what comes back.
func granting(say func(conn net.Conn), back func(kind byte, body []byte)) func(net.Conn) {
	return func(conn net.Conn) {
		for _, answer := range []func(body []byte) []byte{
			func([]byte) []byte { return []byte{0x20, 2, 0, 0} },
			func(body []byte) []byte { return []byte{0x90, 3, body[0], body[1], 1} },
		} {
			_, body, err := readPacket(conn)
			if err != nil {
				return
			}
			if _, err := conn.Write(answer(body)); err != nil {
				return
			}
		}
		said := make(chan struct{})
		go func() { defer close(said); say(conn) }()
		for {
			kind, body, err := readPacket(conn)
			if err != nil || kind == 14 {
				break
			}
			back(kind, body)
		}
		conn.Close()
		<-said
	}
}

// deliver writes a PUBLISH with QoS 1 whose topic is t/ and one digit.
func deliver(conn net.Conn, shard byte, id int) {
	_, _ = conn.Write([]byte{0x32, 7, 0, 3, 't', '/', '0' + shard, byte(id >> 8), byte(id)})
}

func lastDigit(topic string) uint32 { return uint32(topic[len(topic)-1] - '0') }

// TestLinkAcknowledgesInTheOrderOfReceipt has the shards finish in the reverse of it.
func TestLinkAcknowledgesInTheOrderOfReceipt(t *testing.T) {
	const shards, rounds = 8, 50
	var free [shards + 1]chan struct{} // closed when a shard may work: when the one above it has handled all
	for i := range free {
		free[i] = make(chan struct{})
	}
	close(free[shards-1])
	left := [shards]int{}
	for i := range left {
		left[i] = rounds
	}
	acked := make(chan int, shards*rounds)
	x := tap(t, &brokerEnd{scheme: "tcp"}, "broker", "node", "", func(c *LinkConfig) {
		c.Shards, c.Shard = shards, lastDigit
		c.Subscriptions = []Subscription{{"t/#", func(ctx context.Context, m Inbound) error {
			shard := lastDigit(m.Topic)
			select {
			case <-free[shard]:
			case <-ctx.Done():
				return ctx.Err()
			}
			if left[shard]--; left[shard] == 0 && shard > 0 {
				close(free[shard-1])
			}
			return nil
		}}}
		c.Dial = scripted(granting(func(conn net.Conn) {
			for i := range shards * rounds {
				deliver(conn, byte(i%shards), i+1)
			}
		}, func(kind byte, body []byte) {
			if kind == 4 {
				acked <- int(body[0])<<8 | int(body[1])
			}
		}))
	}).awaitUp(t)
	for want := 1; want <= shards*rounds; want++ {
		if got := receive(t, acked, "a PUBACK"); got != want {
			t.Fatalf("PUBACK of %d; wanted that of %d [MQTT-4.6.0-2]", got, want)
		}
	}
	if st := x.Status(); st.Overflows != 0 || st.Reconnects != 0 {
		t.Errorf("status %+v", st)
	}
}

// TestLinkBoundsTheAcknowledgementsItOwes has one handler hang while the other shard is quick.
func TestLinkBoundsTheAcknowledgementsItOwes(t *testing.T) {
	handled, up := make(chan struct{}, 64), make(chan struct{})
	x := tap(t, &brokerEnd{scheme: "tcp"}, "broker", "node", "", func(c *LinkConfig) {
		c.Queue, c.Shards, c.Shard = 2, 2, lastDigit
		c.BackoffMin, c.BackoffMax = time.Hour, time.Hour
		c.OnUp = func() { close(up) } // of a session that was never up there is no end to tell
		c.Subscriptions = []Subscription{{"t/#", func(ctx context.Context, m Inbound) error {
			if lastDigit(m.Topic) == 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			handled <- struct{}{}
			return nil
		}}}
		c.Dial = scripted(granting(func(conn net.Conn) {
			<-up
			deliver(conn, 0, 1)
			for id := 2; id <= 7; id++ { // 6 are owed at most
				deliver(conn, 1, id)
				if id < 7 {
					<-handled
				}
			}
		}, func(kind byte, body []byte) {
			t.Errorf("packet %d %x; wanted none before the first is handled", kind, body)
		}))
	})
	err := receive(t, x.downs, "the drop")
	if want := fmt.Sprintf("%d messages await their PUBACK", 6); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("dropped because of %v; wanted %q", err, want)
	}
	if st := x.Status(); st.Overflows != 1 {
		t.Errorf("status %+v", st)
	}
}
