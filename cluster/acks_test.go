package cluster

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

func TestAnAckWaitsForTheSync(t *testing.T) {
	k := newAcks(&Agent{}, time.Now)
	k.batch("n1", &api.Batch{Epoch: 7, Seq: 1}, 10)
	k.batch("n1", &api.Batch{Epoch: 7, Seq: 2, Prev: 1}, 20)
	k.batch("n1", &api.Batch{Epoch: 7, Seq: 5, Prev: 4}, 30) // what lies between has not come
	k.event("n1", 7, 3)
	events := k.due(0)
	if len(events) != 1 || events[0].ack.Events != 3 || events[0].ack.Seq != 0 {
		t.Errorf("before any sync: %+v; wanted the events alone", events)
	}
	for _, c := range []struct{ pos, seq uint64 }{{19, 0}, {20, 2}, {1000, 0}} {
		var seq uint64
		for _, d := range k.due(c.pos) {
			seq = max(seq, d.ack.Seq)
		}
		if seq != c.seq {
			t.Errorf("synced to %d: acknowledged up to %d; wanted %d", c.pos, seq, c.seq)
		}
	}
	k.batch("n1", &api.Batch{Epoch: 7, Seq: 4, Prev: 2}, 40)
	if out := k.due(40); len(out) != 1 || out[0].ack.Seq < 4 {
		t.Errorf("after the gap closed: %+v", out)
	}
	k.batch("n1", &api.Batch{Epoch: 8, Seq: 1}, 50)
	k.reset("n1")
	if out := k.due(60); len(out) != 0 {
		t.Errorf("owed in an older session: %+v", out)
	}
}

// TestANodeOfALargeSiteIsToldHowLongTheSiteTakesToComeBack has a broker that lets in one node a second.
func TestANodeOfALargeSiteIsToldHowLongTheSiteTakesToComeBack(t *testing.T) {
	r := newRig(t, map[string]string{"mqtt.accept_per_second": "1"})
	cert := r.enrol("n0")
	k := newAcks(r.Agent, time.Now)
	if k.crowd("n0"); len(k.due(0)) > 0 {
		t.Error("the only node is told of a crowd")
	}
	for i := 1; i < 4; i++ {
		r.enrol("n" + strconv.Itoa(i))
	}
	d := r.online("n0", cert, 3, false)
	eventually(t, "it is told", func() bool {
		for _, m := range d.messages(r.topic(mqtt.KindAck, "n0", "")) {
			var a api.Ack
			if err := r.codec.Decode(mqtt.KindAck, m.Payload(), &a); err != nil {
				t.Fatal(err)
			}
			if a.RetryMillis != 0 && a.RetryMillis != 5000 {
				t.Fatalf("told %d ms; wanted a quarter more than 4 s", a.RetryMillis)
			}
			if a.RetryMillis == 5000 {
				return true
			}
		}
		return false
	})
}

func TestWhatIsAcknowledgedIsOnDiskAndInTheAnswer(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 3, false)
	now := api.At(time.Now())
	d.say(r.topic(mqtt.KindTele, "n1", ""), false, api.Batch{Epoch: 3, Seq: 1, Boot: "b", T0: now, TimeQuality: api.TimeSynced,
		Series: []string{"node_load1"}, Rows: []api.Row{{Values: []float64{0.25}}}})
	d.say(r.topic(mqtt.KindEvent, "n1", ""), false, api.Event{Epoch: 3, Seq: 1, At: now, Class: api.ClassAlarm, Kind: "disk.full", Message: "m"})
	d.say(r.topic(mqtt.KindCmdStatus, "n1", "forgotten"), false, api.Status{ID: "forgotten", Phase: api.PhaseSucceeded, Epoch: 3, At: now})
	var seq, events uint64
	var commands []string
	eventually(t, "all is acknowledged", func() bool {
		for _, m := range d.messages(r.topic(mqtt.KindAck, "n1", "")) {
			var a api.Ack
			if err := json.Unmarshal(m.Payload(), &a); err != nil {
				t.Fatal(err)
			}
			seq, events = max(seq, a.Seq), max(events, a.Events)
			commands = append(commands, a.Commands...)
		}
		return seq == 1 && events == 1 && len(commands) > 0 && commands[0] == "forgotten"
	})
	if _, text := r.call(r.root(), "GET", "/api/v1/query?query=node_load1", ""); !strings.Contains(text, `"0.25"`) {
		t.Errorf("query: %s", text)
	}
	if _, text := r.call(r.root(), "GET", "/v1/events?node=n1", ""); !strings.Contains(text, "disk.full") {
		t.Errorf("events: %s", text)
	}
}
