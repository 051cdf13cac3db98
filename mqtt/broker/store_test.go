package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

func TestPubackComesOnlyAfterTheMessageIsStored(t *testing.T) {
	w := newWorld(t)
	entered, release := make(chan struct{}), make(chan struct{})
	w.onHandle(func(ctx context.Context, m broker.Inbound) error {
		close(entered)
		<-release
		return nil
	})
	seen := w.reads(w.join(person("eve", api.RoleViewer)), w.topics.Filter(mqtt.KindTele, "+"))
	r := w.dial(w.tls(node("n1")))
	if code := r.connect("n1"); code != 0 {
		t.Fatalf("CONNACK %d", code)
	}
	r.publish(7, w.topics.Of(mqtt.KindTele, "n1", ""), `{}`, false)
	<-entered
	r.silent(150 * time.Millisecond)
	if len(seen) != 0 {
		t.Fatal("message was passed on before it was stored")
	}
	close(release)
	ack, err := r.read(patience)
	if err != nil || ack.FixedHeader.Type != packets.Puback || ack.PacketID != 7 {
		t.Fatalf("got %+v, %v; wanted PUBACK 7", ack, err)
	}
	if m := next(t, seen); string(m.Payload()) != `{}` {
		t.Fatalf("viewer got %q", m.Payload())
	}
}

func TestWhatIsNotStoredIsNotAcknowledgedAndComesAgain(t *testing.T) {
	w := newWorld(t)
	w.onHandle(func(_ context.Context, m broker.Inbound) error {
		if string(m.Payload) == "first" {
			return errors.New("disk is full")
		}
		return nil
	})
	seen := w.reads(w.join(person("eve", api.RoleViewer)), w.topics.Filter(mqtt.KindTele, "+"))
	topic := w.topics.Of(mqtt.KindTele, "n1", "")
	r := w.dial(w.tls(node("n1")))
	r.connect("n1")
	var both []packets.Packet // in one TLS record: the second is there when the first is refused, and must not overtake it
	for i, payload := range []string{"first", "second"} {
		both = append(both, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: 4,
			PacketID: uint16(i + 1), TopicName: topic, Payload: []byte(payload)})
	}
	r.write(both...)
	r.closed()
	eventually(t, "session is over", func() bool {
		return slices.ContainsFunc(w.happened(), func(e string) bool { return strings.HasPrefix(e, "lose n1") })
	})
	w.mu.Lock()
	if s := w.Stats(); s.Unstored != 1 || len(w.handled) != 0 {
		t.Errorf("unstored %d, handled %d; wanted 1 and none", s.Unstored, len(w.handled))
	}
	w.mu.Unlock()

	w.onHandle(nil) // the disk has room again
	r = w.dial(w.tls(node("n1")))
	r.connect("n1")
	for i, payload := range []string{"first", "second"} {
		r.publish(uint16(i+1), topic, payload, false)
		if ack, err := r.read(patience); err != nil || ack.FixedHeader.Type != packets.Puback {
			t.Fatalf("%s: got %+v, %v; wanted PUBACK", payload, ack.FixedHeader, err)
		}
	}
	for _, want := range []string{"first", "second"} {
		if m := next(t, seen); string(m.Payload()) != want {
			t.Errorf("viewer got %q; wanted %q once and in order", m.Payload(), want)
		}
	}
	if !strings.Contains(w.log.String(), "disk is full") {
		t.Errorf("log does not name the cause: %s", w.log)
	}
}

func TestWhatCanNeverBeHandledIsAcknowledgedAndDropped(t *testing.T) {
	w := newWorld(t)
	w.onHandle(func(_ context.Context, m broker.Inbound) error {
		if string(m.Payload) == "rubbish" {
			return fmt.Errorf("no JSON: %w", broker.ErrDiscard)
		}
		return nil
	})
	seen := w.reads(w.join(person("eve", api.RoleViewer)), w.topics.All())
	n1 := w.join(node("n1"))
	state, event := w.topics.Of(mqtt.KindState, "n1", ""), w.topics.Of(mqtt.KindEvent, "n1", "")
	w.send(n1, state, "rubbish", true)
	entry, _ := mqtt.EntryOf(mqtt.KindEvent)
	w.send(n1, event, strings.Repeat("x", entry.MaxBytes+1), false)
	w.send(n1, event, "good", false)
	if m := next(t, seen); string(m.Payload()) != "good" {
		t.Errorf("viewer got %.20q; wanted only what was handled", m.Payload())
	}
	if s := w.Stats(); s.Discarded != 2 || s.Retained != 0 {
		t.Errorf("discarded %d, retained %d; wanted 2 and 0", s.Discarded, s.Retained)
	}
	late := w.reads(w.join(person("bob", api.RoleViewer)), state)
	w.send(n1, state, "fine", true)
	if m := next(t, late); string(m.Payload()) != "fine" {
		t.Errorf("what was discarded is retained: %q", m.Payload())
	}
}

func TestANewSessionBeginsAfterTheOldOneIsWhollyOver(t *testing.T) {
	w := newWorld(t)
	state := w.topics.Of(mqtt.KindState, "n1", "")
	lost := func(o *paho.ClientOptions) { o.SetWill(state, "lost", 1, true) }
	first := w.join(node("n1"), lost)
	w.send(first, state, "online 1", true)

	entered, release := make(chan struct{}), make(chan struct{})
	w.onHandle(func(_ context.Context, m broker.Inbound) error {
		if string(m.Payload) == "slow" {
			close(entered)
			<-release
		}
		return nil
	})
	first.Publish(w.topics.Of(mqtt.KindTele, "n1", ""), 1, false, "slow")
	<-entered
	joined := make(chan paho.Client)
	go func() {
		c, err := w.try(node("n1"), lost)
		if err != nil {
			t.Errorf("second session: %v", err)
		}
		joined <- c
	}()
	select {
	case <-joined:
		t.Fatal("new session began while the old one was being handled")
	case <-time.After(150 * time.Millisecond):
	}
	close(release)
	second := <-joined
	if second == nil {
		t.FailNow()
	}
	w.send(second, state, "online 2", true)

	want := []string{"connect n1", "handle " + state + " online 1", "handle " + w.topics.Of(mqtt.KindTele, "n1", "") + " slow",
		"handle " + state + " lost", "lose n1: " + broker.ErrReplaced.Error(), "connect n1", "handle " + state + " online 2"}
	if got := w.happened(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	late := w.reads(w.join(person("eve", api.RoleViewer)), state)
	if m := next(t, late); string(m.Payload()) != "online 2" {
		t.Errorf("retained state is %q; wanted the new session's", m.Payload())
	}
	if n := len(w.Connected()); n != 2 {
		t.Errorf("%d sessions; wanted 2", n)
	}
}

func TestALostNodesWillIsStoredBeforeItIsPublished(t *testing.T) {
	w := newWorld(t)
	state := w.topics.Of(mqtt.KindState, "n1", "")
	seen := w.reads(w.join(person("eve", api.RoleViewer)), state)
	r := w.dial(w.tls(node("n1")))
	r.connect("n1", func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, state, []byte("lost")
		pk.Connect.WillQos, pk.Connect.WillRetain = 1, true
	})
	_ = r.conn.Close()
	if m := next(t, seen); string(m.Payload()) != "lost" {
		t.Fatalf("viewer got %q", m.Payload())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.handled) != 1 || !w.handled[0].Will || !w.handled[0].Retained || w.handled[0].From.Name != "n1" {
		t.Errorf("handled %+v; wanted one will of n1", w.handled)
	}
}

func TestEveryRetainedMessageReachesAConsumerHoweverMany(t *testing.T) {
	const nodes = 1500
	for _, qos := range []byte{0, 1} {
		t.Run(fmt.Sprintf("qos %d", qos), func(t *testing.T) {
			w := newWorld(t, func(c *broker.Config) { c.Limits.WritesPending, c.Limits.Window = 16, 8 })
			for i := range nodes {
				if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindState, fmt.Sprintf("n%d", i), ""), []byte("online"), true); err != nil {
					t.Fatal(err)
				}
			}
			got := map[string]int{}
			seen := make(chan string, nodes)
			c := w.join(person("eve", api.RoleViewer))
			if err := settle(c.Subscribe(w.topics.Filter(mqtt.KindState, "+"), qos, func(_ paho.Client, m paho.Message) {
				if m.Retained() {
					seen <- m.Topic()
				}
			})); err != nil {
				t.Fatal(err)
			}
			for len(got) < nodes {
				select {
				case topic := <-seen:
					got[topic]++
				case <-time.After(patience):
					t.Fatalf("got %d of %d retained messages; dropped %d", len(got), nodes, w.Stats().Dropped)
				}
			}
			if s := w.Stats(); s.Dropped != 0 {
				t.Errorf("dropped %d; wanted none", s.Dropped)
			}
		})
	}
}

func TestClearingARemovedNodeLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	state, birth := w.topics.Of(mqtt.KindState, "n1", ""), w.topics.Of(mqtt.KindBirth, "n1", "")
	n1 := w.join(node("n1"), func(o *paho.ClientOptions) { o.SetWill(state, "lost", 1, true) })
	w.send(n1, state, "online", true)
	w.send(n1, birth, "{}", true)
	n2 := w.join(node("n2"))
	w.send(n2, w.topics.Of(mqtt.KindState, "n2", ""), "online", true)
	if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindDesired, "n1", ""), []byte("{}"), true); err != nil {
		t.Fatal(err)
	}
	live := w.reads(w.join(person("bob", api.RoleViewer)), state)
	next(t, live)

	if n := w.Kick("n1"); n != 1 {
		t.Errorf("kicked %d; wanted 1", n)
	}
	eventually(t, "n1 is gone", func() bool { return slices.Contains(w.happened(), "lose n1: "+broker.ErrKicked.Error()) })
	if n, err := w.ClearRetained(t.Context(), "n1"); n != 3 || err != nil {
		t.Errorf("cleared %d, %v; wanted state, birth and desired", n, err)
	}
	if m := next(t, live); len(m.Payload()) != 0 {
		t.Errorf("subscriber got %q; wanted to be told that the state is gone", m.Payload())
	}
	late := w.reads(w.join(person("eve", api.RoleViewer)), w.topics.All())
	if m := next(t, late); m.Topic() != w.topics.Of(mqtt.KindState, "n2", "") {
		t.Errorf("retained: %s %q; wanted only n2's", m.Topic(), m.Payload())
	}
	if n, err := w.ClearRetained(t.Context(), "n1"); n != 0 || err != nil {
		t.Errorf("cleared %d more, %v", n, err)
	}
}

func TestTheAgentPublishesOnlyWhatTheContractHas(t *testing.T) {
	w := newWorld(t)
	n1 := w.join(node("n1"))
	got := w.reads(n1, w.topics.Filter(mqtt.KindCmd, "n1"))
	if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindCmd, "n1", "k1"), []byte("order"), false); err != nil {
		t.Fatal(err)
	}
	if m := next(t, got); string(m.Payload()) != "order" || m.Qos() != 1 {
		t.Errorf("node got %q with QoS %d", m.Payload(), m.Qos())
	}
	for name, err := range map[string]error{
		"retained command": w.Publish(t.Context(), w.topics.Of(mqtt.KindCmd, "n1", "k1"), []byte("x"), true),
		"foreign topic":    w.Publish(t.Context(), "elsewhere", []byte("x"), false),
		"too large":        w.Publish(t.Context(), w.topics.Of(mqtt.KindAck, "n1", ""), make([]byte, 64<<10), false),
	} {
		if err == nil {
			t.Errorf("%s was published", name)
		}
	}
}
