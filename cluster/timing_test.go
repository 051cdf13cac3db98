package cluster

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// acked is what a device was told by acks so far.
func (d *device) acked() (seq uint64, pauses int, times []api.Millis) {
	d.r.t.Helper()
	for _, m := range d.messages(d.r.topic(mqtt.KindAck, d.id, "")) {
		var ack api.Ack
		if err := json.Unmarshal(m.Payload(), &ack); err != nil {
			d.r.t.Fatal(err)
		}
		seq, times = max(seq, ack.Seq), append(times, ack.Time)
		if ack.PauseMillis > 0 {
			pauses++
		}
	}
	return seq, pauses, times
}

func (d *device) measure(epoch, seq uint64, at time.Time, value float64) {
	d.r.t.Helper()
	d.say(d.r.topic(mqtt.KindTele, d.id, ""), false, api.Batch{Epoch: epoch, Seq: seq, Boot: "b", T0: api.At(at), TimeQuality: api.TimeSynced,
		Series: []string{"x"}, Rows: []api.Row{{Values: []float64{value}}}})
}

// alarms are the messages of the alarms of a kind, oldest first.
func (r *rig) alarms(kind string) (out []string) {
	r.t.Helper()
	for _, e := range must[api.List[api.EventRecord]](r, "GET", "/v1/events?limit=100", nil).Items {
		if e.Kind == kind && e.Class == api.ClassAlarm {
			out = append(out, e.Node+" "+e.Message)
		}
	}
	slices.Reverse(out)
	return out
}

func (r *rig) stored(expr string) string {
	r.t.Helper()
	_, text := r.call(r.root(), "GET", "/api/v1/query?query="+url.QueryEscape(expr), "")
	return text
}

func TestWhileTheClusterClockIsBehindNodesKeepTheirSamplesAndCommandsGoOn(t *testing.T) {
	for name, off := range map[string]time.Duration{"an hour": -time.Hour, "1970": -time.Since(time.Unix(60, 0))} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			d := r.online("n1", r.enrol("n1"), 1, true)
			at := time.Now()
			d.measure(1, 1, at, 41)
			eventually(t, "the first batch is acknowledged", func() bool { seq, _, _ := d.acked(); return seq == 1 })

			r.off.Store(int64(off))
			d.measure(1, 2, at.Add(time.Second), 42)
			eventually(t, "the node is told to keep it", func() bool { _, pauses, _ := d.acked(); return pauses > 0 })
			if seq, _, times := d.acked(); seq != 1 || time.Since(times[len(times)-1].Time()).Abs() > time.Minute {
				t.Errorf("acknowledged up to %d, acks %v; wanted 1, and the right time", seq, times)
			}
			eventually(t, "an alarm", func() bool { return len(r.alarms("clock.wrong")) == 1 })
			if st := must[api.ClusterStatus](r, "GET", "/v1/status", nil); !slices.ContainsFunc(st.Trouble, func(s string) bool { return strings.HasPrefix(s, "clock is wrong: ") }) {
				t.Errorf("trouble %q", st.Trouble)
			}
			if rec := must[api.List[api.CommandRecord]](r, "POST", "/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, Verb: "ping", Deadline: "1h"}).Items[0]; time.Until(rec.Deadline.Time()) < 30*time.Minute {
				t.Errorf("deadline %s; wanted an hour from now", rec.Deadline.Time())
			}

			r.stop() // and it wakes with the wrong clock
			r.start()
			d = r.online("n1", d.cert, 2, true)
			var desired api.Signed
			if err := json.Unmarshal(d.messages(r.topic(mqtt.KindDesired, "n1", ""))[0].Payload(), &desired); err != nil {
				t.Fatal(err)
			}
			var doc api.Desired
			if err := json.Unmarshal(desired.Payload, &doc); err != nil {
				t.Fatal(err)
			}
			if time.Since(doc.Issued.Time()).Abs() > time.Minute {
				t.Errorf("the node is told %s; wanted the right time", doc.Issued.Time())
			}
			d.measure(1, 2, at.Add(time.Second), 42)
			eventually(t, "it is told to keep it", func() bool { _, pauses, _ := d.acked(); return pauses > 0 })

			r.off.Store(0)
			d.measure(1, 2, at.Add(time.Second), 42)
			eventually(t, "it is stored", func() bool { seq, _, _ := d.acked(); return seq == 2 })
			eventually(t, "the alarm is cleared", func() bool { a := r.alarms("clock.wrong"); return a[len(a)-1] == " cleared" })
			if text := r.stored(`x{node="n1"}[1h]`); !strings.Contains(text, `"41"`) || !strings.Contains(text, `"42"`) {
				t.Errorf("stored: %s", text)
			}
			if n := must[api.Node](r, "GET", "/v1/nodes/n1", nil); len(n.Rejected) > 0 {
				t.Errorf("rejected: %v", n.Rejected)
			}
		})
	}
}

func TestWhatANodeDatesIntoTheFutureIsDroppedAndTold(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 1, false)
	d.measure(1, 1, time.Now().Add(time.Hour), 41)
	eventually(t, "it is acknowledged: to send it again is of no use", func() bool { seq, _, _ := d.acked(); return seq == 1 })
	eventually(t, "one of the future is counted", func() bool {
		return must[api.Node](r, "GET", "/v1/nodes/n1", nil).Rejected["future"] == 1
	})
	eventually(t, "an alarm", func() bool {
		a := r.alarms("telemetry.rejected")
		return len(a) == 1 && strings.HasPrefix(a[0], "n1 1 samples are dropped")
	})
	if _, text := r.call(r.root(), "GET", "/metrics", ""); !strings.Contains(text, `skerry_telemetry_rejected_samples_total{reason="future"} 1`) {
		t.Error("the counter does not tell")
	}
}

func TestANodeWithoutStateIsHeardByAClusterAgentThatWakesIn1970(t *testing.T) {
	r := newRig(t, nil)
	cert := r.enrol("n1")
	known := uint64(time.Now().Add(time.Hour).UnixMilli()) // it had counted further than any clock says
	r.online("n1", cert, known, false)
	r.stop()
	r.off.Store(int64(-time.Since(time.Unix(60, 0))))
	r.start()
	d := &device{id: "n1", cert: cert, peer: r.connect("n1", cert, r.topic(mqtt.KindAck, "n1", ""), r.topic(mqtt.KindDesired, "n1", ""))}
	d.announce(40, []api.Verb{{Name: "ping", Role: api.RoleOperator}}, nil)
	floor := uint64(0)
	eventually(t, "it is told its session", func() bool {
		for _, m := range d.messages(r.topic(mqtt.KindAck, "n1", "")) {
			var ack api.Ack
			if json.Unmarshal(m.Payload(), &ack) == nil && ack.EpochFloor > 0 {
				if err := ack.Validate(); err != nil {
					t.Fatal(err)
				}
				floor = ack.EpochFloor
			}
		}
		return floor > 0
	})
	if floor != known {
		t.Errorf("floor %d; wanted %d", floor, known)
	}
	d.Disconnect(0)
	d = r.online("n1", cert, floor+1, true) // which is what RaiseEpoch has it do
	if n := must[api.Node](r, "GET", "/v1/nodes/n1", nil); n.Epoch != floor+1 || n.Presence != api.PresenceOnline {
		t.Errorf("session %d, %s", n.Epoch, n.Presence)
	}
	id := must[api.List[api.CommandRecord]](r, "POST", "/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, Verb: "ping", Deadline: "5m"}).Items[0].ID
	eventually(t, "it is commanded", func() bool {
		return must[api.CommandRecord](r, "GET", "/v1/commands/"+id, nil).Phase == api.PhaseSucceeded
	})
}
