package cluster

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// garbage is what no topic takes.
func garbage() map[string]string {
	return map[string]string{
		"nothing":      "",
		"text":         "hello",
		"binary":       "\x00\xff\xfe\x80",
		"half":         `{"epoch":1,"seq":`,
		"empty object": "{}",
		"list":         "[]",
		"null":         "null",
		"two":          `{} {}`,
		"deep":         strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50),
		"wrong types":  `{"epoch":"one","seq":[],"id":7,"state":{},"node":1,"phase":0,"verb":9,"channel":"x"}`,
		"huge numbers": `{"epoch":1e400,"seq":-1}`,
		"half of CBOR": "\xbf\x61",
		"CBOR bomb":    "\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
	}
}

// TestGarbageIsAcknowledgedAndCounted sends what cannot be used on every topic that is read: were it refused, a client
// would send it again for ever, before everything else.
func TestGarbageIsAcknowledgedAndCounted(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 5, false)
	op := r.connect("operator-a", r.operator("a", api.RoleOperator))
	before := r.wire.(*embedded).Stats()
	want := uint64(0)
	for _, e := range mqtt.Contract() {
		from := map[mqtt.Direction]*peer{mqtt.Up: d.peer, mqtt.Ask: op}[e.Dir]
		if from == nil {
			continue
		}
		for name, payload := range garbage() {
			from.say(r.topic(e.Kind, "n1", "x"), e.Retain, []byte(payload))
			if !from.IsConnected() {
				t.Fatalf("%s on %s: thrown out", name, e.Name)
			}
			if e.Dir == mqtt.Up {
				want++
			}
		}
	}
	after := r.wire.(*embedded).Stats()
	if got := after.Discarded - before.Discarded; got != want || after.Unstored != before.Unstored {
		t.Errorf("%d discarded, %d unstored; wanted %d and 0", got, after.Unstored-before.Unstored, want)
	}
	if n := must[api.Node](r, "GET", "/v1/nodes/n1", nil); n.Birth == nil || n.Birth.Epoch != 5 || n.Presence != api.PresenceOnline {
		t.Errorf("the node is not what it was: %+v", n)
	}
}

func TestWhatDecodesAndCannotBeIsAcknowledgedToo(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 5, false)
	now := api.At(time.Now())
	batch := func(change func(*api.Batch)) api.Batch {
		b := api.Batch{Epoch: 5, Seq: 1, T0: now, Series: []string{"node_load1"}, Rows: []api.Row{{OffsetMillis: 0, Values: []float64{1}}}}
		change(&b)
		return b
	}
	for name, c := range map[string]struct {
		kind    mqtt.Kind
		id      string
		message any
	}{
		"birth of another":        {mqtt.KindBirth, "", api.Birth{Node: "n2", Cluster: "c1", Epoch: 5, TimeQuality: api.TimeSynced}},
		"birth elsewhere":         {mqtt.KindBirth, "", api.Birth{Node: "n1", Cluster: "c2", Epoch: 5, TimeQuality: api.TimeSynced}},
		"birth of an old session": {mqtt.KindBirth, "", api.Birth{Node: "n1", Cluster: "c1", Epoch: 4, TimeQuality: api.TimeSynced}},
		"old state":               {mqtt.KindState, "", api.State{State: api.StateOffline, Epoch: 4, At: now}},
		"status of another topic": {mqtt.KindCmdStatus, "a", api.Status{ID: "b", Phase: api.PhaseSucceeded, Epoch: 5, At: now}},
		"status of nothing":       {mqtt.KindCmdStatus, "a", api.Status{ID: "a", Phase: api.PhaseSucceeded, Epoch: 5, At: now}},
		"frame of no stream":      {mqtt.KindStreamUp, "a", api.Frame{Seq: 1}},
		"series that is none":     {mqtt.KindTele, "", batch(func(b *api.Batch) { b.Series = []string{"{{{"} })},
		"series of two lines":     {mqtt.KindTele, "", batch(func(b *api.Batch) { b.Series = []string{"a{b=\"\n\"}"} })},
		"series with the node":    {mqtt.KindTele, "", batch(func(b *api.Batch) { b.Series = []string{`a{node="n2"}`} })},
		"sample of the future":    {mqtt.KindTele, "", batch(func(b *api.Batch) { b.T0 = now + 1000*3600*24*365*50 })},
		"sample of long ago":      {mqtt.KindTele, "", batch(func(b *api.Batch) { b.T0 = 1 })},
		"offset out of time":      {mqtt.KindTele, "", batch(func(b *api.Batch) { b.Rows[0].OffsetMillis = math.MaxInt64 })},
		"time at its end":         {mqtt.KindTele, "", batch(func(b *api.Batch) { b.T0 = math.MaxInt64 })},
		"report of an old time":   {mqtt.KindReported, "", api.Reported{Epoch: 4}},
	} {
		entry, _ := mqtt.EntryOf(c.kind)
		raw, err := json.Marshal(c.message)
		if err != nil {
			t.Fatal(err)
		}
		d.say(r.topic(c.kind, "n1", c.id), entry.Retain, raw)
		if !d.IsConnected() {
			t.Fatalf("%s: thrown out; log: %s", name, r.log.String())
		}
	}
	if s := r.wire.(*embedded).Stats(); s.Unstored != 0 {
		t.Errorf("%d messages would come again", s.Unstored)
	}
	if n := must[api.Node](r, "GET", "/v1/nodes/n1", nil); n.Presence != api.PresenceOnline || n.Birth.Epoch != 5 {
		t.Errorf("the node is not what it was: %+v", n)
	}
}
