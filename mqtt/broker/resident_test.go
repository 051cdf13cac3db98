package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

// deep needs as many KiB of stack.
func deep(kib int) byte {
	var room [1 << 10]byte
	room[kib] = 1
	if kib == 0 {
		return room[0]
	}
	return room[1] + deep(kib-1)
}

func TestAnIdleConnectionKeepsNoneOfTheStackThatItsMessagesNeeded(t *testing.T) {
	const clients, most = 200, 14 << 10 // it was 24 KiB, and more with every call that is deeper
	w := newWorld(t, func(c *broker.Config) { c.Limits.AcceptPerSecond = 10_000 })
	w.onHandle(func(context.Context, broker.Inbound) error { deep(20); return nil })
	var certs []*raw
	stacks := func() int64 {
		var m runtime.MemStats
		for range 5 { // each halves a stack at most
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.StackInuse)
	}
	before := stacks()
	for i := range clients {
		name := fmt.Sprintf("n%d", i)
		r := w.dial(w.tls(node(name)))
		r.connect(name)
		r.publish(1, w.topics.Of(mqtt.KindTele, name, ""), "x", false)
		if ack, err := r.read(patience); err != nil || ack.FixedHeader.Type != packets.Puback {
			t.Fatalf("%s: got packet %d, %v; wanted PUBACK", name, ack.FixedHeader.Type, err)
		}
		certs = append(certs, r)
	}
	// A PUBACK is written before the goroutine that did so is back where it waits.
	eventually(t, fmt.Sprintf("an idle connection keeps at most %d bytes of stack", most), func() bool {
		return (stacks()-before)/int64(len(certs)) <= most
	})
}

func TestPacketsAreTheSameHoweverTheyAreCutIntoRecords(t *testing.T) {
	w := newWorld(t)
	topic := w.topics.Of(mqtt.KindTele, "n1", "")
	var stream bytes.Buffer
	sizes := []int{0, 1, 100, 4094, 4095, 4096, 4097, 60_000, 3} // around the buffer, and far beyond it
	for i, size := range sizes {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: 4, PacketID: uint16(i + 1),
			TopicName: topic, Payload: []byte(strings.Repeat(fmt.Sprint(i), size))}
		if err := pk.PublishEncode(&stream); err != nil {
			t.Fatal(err)
		}
	}
	for name, cut := range map[string]func(rest []byte) int{
		"all at once": func(rest []byte) int { return len(rest) },
		"odd pieces":  func(rest []byte) int { return min(len(rest), 997) },
		"one byte, then the rest": func(rest []byte) int {
			if len(rest) == stream.Len() {
				return 1
			}
			return len(rest)
		},
		"byte by byte at first": func(rest []byte) int {
			if stream.Len()-len(rest) < 200 {
				return 1
			}
			return min(len(rest), 4096)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.dial(w.tls(node("n1")))
			r.connect("n1")
			for rest := stream.Bytes(); len(rest) > 0; {
				n := cut(rest)
				if _, err := r.conn.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			for i := range sizes {
				ack, err := r.read(patience)
				if err != nil || ack.FixedHeader.Type != packets.Puback || int(ack.PacketID) != i+1 {
					t.Fatalf("got packet %d of id %d, %v; wanted PUBACK %d", ack.FixedHeader.Type, ack.PacketID, err, i+1)
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			got := w.handled[len(w.handled)-len(sizes):]
			for i, size := range sizes {
				if want := strings.Repeat(fmt.Sprint(i), size); string(got[i].Payload) != want {
					t.Errorf("message %d has %d bytes; wanted the %d that were sent", i, len(got[i].Payload), size)
				}
			}
		})
	}
}

func TestAPacketThatNeverEndsDoesNotHoldTheConnection(t *testing.T) {
	w := newWorld(t)
	r := w.dial(w.tls(node("n1")))
	if code := r.connect("n1", func(pk *packets.Packet) { pk.Connect.Keepalive = 1 }); code != 0 {
		t.Fatalf("CONNACK %d", code)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := r.read(patience)
		ended <- err
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	more := []byte{0x30, 0xa0, 0x8d, 0x06} // PUBLISH, of 100,000 bytes, of which one comes now and then
	for {
		if _, err := r.conn.Write(more); err != nil {
			more = nil // the reader says why
		} else {
			more = []byte{'x'}
		}
		select {
		case err := <-ended:
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v; wanted the end of a connection with a keepalive of 1 s, however often a byte comes", err)
			}
			return
		case <-tick.C:
		}
	}
}

func TestWhoKeepsANameKeepsNoPayload(t *testing.T) {
	const messages, size = 100, 100 << 10
	var names []string // one at a time: all are of one client
	w := newWorld(t, func(c *broker.Config) {
		c.Handle = func(_ context.Context, m broker.Inbound) error {
			names = append(names, m.Topic.Node, m.Topic.ID)
			return nil
		}
	})
	n1 := w.join(node("n1"))
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, payload := live(), strings.Repeat("x", size)
	for range messages {
		w.send(n1, w.topics.Of(mqtt.KindTele, "n1", ""), payload, false)
	}
	eventually(t, "the names of the messages keep none of them", func() bool { return live()-before <= messages*size/4 })
	runtime.KeepAlive(&names)
}

func TestMessagesAreCountedOnce(t *testing.T) {
	w := newWorld(t)
	n1 := w.join(node("n1"))
	before := w.Stats().Received
	for range 7 {
		w.send(n1, w.topics.Of(mqtt.KindTele, "n1", ""), "x", false)
	}
	// They are counted after their PUBACK; twice as many, or none, would stay.
	eventually(t, "7 messages are counted", func() bool { return w.Stats().Received-before == 7 })
}

// TestWhatItsPublisherLetsExpireIsNotRepeated has a client of MQTT 5 retain a message for a second [MQTT-3.3.2-5].
func TestWhatItsPublisherLetsExpireIsNotRepeated(t *testing.T) {
	w := newWorld(t)
	topic := w.topics.Of(mqtt.KindState, "n1", "")
	r := w.dial(w.tls(node("n1")))
	r.version = 5
	if c := r.connect("n1"); c != 0 {
		t.Fatalf("CONNACK %d", c)
	}
	r.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, ProtocolVersion: 5, PacketID: 1,
		TopicName: topic, Payload: []byte("x"), Properties: packets.Properties{MessageExpiryInterval: 1}})
	if _, err := r.read(patience); err != nil {
		t.Fatal(err)
	}
	if n := w.Stats().Retained; n != 1 {
		t.Fatalf("%d messages are retained", n)
	}
	<-time.After(3 * time.Second) // by the broker's clock, in whole seconds
	got := w.reads(w.join(person("ann", api.RoleOperator)), topic)
	w.send(w.join(node("n2")), w.topics.Of(mqtt.KindState, "n2", ""), "later", true) // what is repeated comes before this can be asked for
	second := w.reads(w.join(person("eve", api.RoleOperator)), w.topics.Filter(mqtt.KindState, "+"))
	for m := <-second; string(m.Payload()) != "later"; m = <-second {
		t.Errorf("%q is repeated", m.Payload())
	}
	select {
	case m := <-got:
		t.Errorf("%q is repeated", m.Payload())
	default:
	}
	if n := w.Stats().Retained; n != 1 {
		t.Errorf("%d messages are retained; wanted that of n2 alone", n)
	}
}
