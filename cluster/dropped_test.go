package cluster

import (
	"math"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// TestDropsAreAsCurrentAsTelemetry has a node drop samples in the middle of a session.
func TestDropsAreAsCurrentAsTelemetry(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 7, false)
	series := []string{"node_load1", "skerry_edge_dropped_samples_total", "skerry_edge_downsampled_samples_total", "skerry_edge_dropped_events_total",
		"skerry_edge_dropped_batches_total", "skerry_edge_dropped_alarms_total", "skerry_edge_dropped_else_total"}
	seq := uint64(0)
	report := func(epoch uint64, historical bool, values ...float64) {
		t.Helper()
		seq++
		d.say(r.topic(mqtt.KindTele, "n1", ""), false, api.Batch{Epoch: epoch, Seq: seq, Boot: "b", T0: api.At(time.Now()), TimeQuality: api.TimeSynced,
			Series: series, Rows: []api.Row{{OffsetMillis: int64(seq), Values: values}}, Historical: historical})
	}
	dropped := func() api.Dropped {
		t.Helper()
		return must[api.Node](r, "GET", "/v1/nodes/n1", nil).Birth.Backlog.Dropped
	}
	report(7, false, 1, 0, 0, 0, math.NaN(), math.NaN(), 9)
	if got := dropped(); got != (api.Dropped{}) {
		t.Errorf("nothing was dropped: %+v", got)
	}
	report(7, false, 1, 474, 12, 3, 40, 1, 9)
	want := api.Dropped{Samples: 474, Downsampled: 12, Events: 2, Batches: 40, Alarms: 1}
	eventually(t, "the drops are known", func() bool { return dropped() == want })
	report(7, true, 1, 9999, 12, 3, 40, 1, 9)  // as it was a while ago
	report(6, false, 1, 9999, 12, 3, 40, 1, 9) // of another session
	report(7, false, 1, 100, 12, 3, 40, 1, 9)  // counters never fall
	if got := dropped(); got != want {
		t.Errorf("%+v; wanted %+v", got, want)
	}
}

// TestABirthThatIsToldAgainChangesWhatIsKnownAndNothingElse has a node whose labels change within a session.
func TestABirthThatIsToldAgainChangesWhatIsKnownAndNothingElse(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 3, false)
	desired := r.topic(mqtt.KindDesired, "n1", "")
	greetings := len(d.messages(desired))
	before := must[api.Node](r, "GET", "/v1/nodes/n1", nil)
	again := *before.Birth
	again.Labels, again.IntervalMillis, again.At = map[string]string{"site": "mole"}, 3000, api.At(time.Now())
	d.say(r.topic(mqtt.KindBirth, "n1", ""), true, again)
	var n api.Node
	eventually(t, "the change is known", func() bool {
		n = must[api.Node](r, "GET", "/v1/nodes/n1", nil)
		return n.Birth.IntervalMillis == 3000 && n.Labels["site"] == "mole"
	})
	if n.Restarts != before.Restarts || n.Reboots != before.Reboots || n.Presence != api.PresenceOnline {
		t.Errorf("taken for a restart: %+v", n)
	}
	if got := len(d.messages(desired)); got != greetings {
		t.Errorf("greeted %d times; wanted %d", got, greetings)
	}
}
