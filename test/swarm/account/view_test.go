package account

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// answers is a Getter of canned answers by path.
type answers map[string]string

func (a answers) Get(_ context.Context, path string, out any) error {
	text, ok := a[path]
	if !ok {
		return &api.Problem{Status: http.StatusNotFound, Title: "not found"}
	}
	return json.Unmarshal([]byte(text), out)
}

func TestRESTReadsTheLifeOfACommandFromItsHistory(t *testing.T) {
	v := &REST{Client: answers{
		"/v1/commands/ok": `{"id":"ok","phase":"succeeded","final":true,"status":{"id":"ok","phase":"succeeded"},
			"history":[{"phase":"queued","side":"cluster"},{"phase":"succeeded","side":"node"}]}`,
		"/v1/commands/late": `{"id":"late","phase":"timed_out","final":true,"status":{"id":"late","phase":"succeeded"},
			"history":[{"phase":"timed_out","side":"cluster","reason":"no end"},{"phase":"timed_out","side":"node","reason":"late: succeeded: done"}]}`,
		"/v1/commands/twice": `{"id":"twice","phase":"failed","final":true,"history":[{"phase":"failed","side":"node"},{"phase":"succeeded","side":"node"}]}`,
		"/v1/commands/open":  `{"id":"open","phase":"running","history":[{"phase":"running","side":"node"}]}`,
	}}
	orders := []Order{{ID: "ok"}, {ID: "late"}, {ID: "twice"}, {ID: "open"}, {ID: "none"}}
	got, whole, err := v.Commands(t.Context(), orders)
	want := map[string]Life{
		"ok":    {Finals: []api.Phase{"succeeded"}, Said: []api.Phase{"succeeded"}, Due: true},
		"late":  {Reason: "no end", Finals: []api.Phase{"timed_out"}, Said: []api.Phase{"succeeded"}, Due: true, Closed: true, Late: "succeeded"},
		"twice": {Finals: []api.Phase{"failed", "succeeded"}, Due: true},
		"open":  {Due: true},
	}
	if err != nil || !whole || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, %v", got, whole, err)
	}
}

func TestRESTReadsNodes(t *testing.T) {
	v := &REST{Client: answers{"/v1/nodes": `{"items":[{"id":"n1","presence":"online","desired":{"generation":3},"reported":{"generation":2}},{"id":"n2"}]}`}}
	got, err := v.Nodes(t.Context())
	if want := map[string]Sight{"n1": {api.PresenceOnline, 3, 2}, "n2": {}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// lookup is a Getter that answers every query and keeps it.
type lookup struct {
	query, answer string
}

func (l *lookup) Get(_ context.Context, path string, out any) error {
	l.query = path
	return json.Unmarshal([]byte(l.answer), out)
}

func TestPromQLReadsRawSamples(t *testing.T) {
	l := &lookup{answer: `{"status":"success","data":{"resultType":"matrix","result":[
		{"metric":{"__name__":"swarm_s1","node":"n1"},"values":[[1764000000.123,"481036337152"],[1764000030,"1e3"]]},
		{"metric":{"__name__":"swarm_sx"},"values":[[1764000000,"7"],[1,"old"]]}]}}`}
	v := &PromQL{Client: l}
	from, to := time.UnixMilli(1764000000000), time.UnixMilli(1764000060000)
	_, err := v.Samples(t.Context(), "n1", from, to)
	if err == nil {
		t.Error("a value that is no number passes")
	}
	l.answer = strings.Replace(l.answer, `"old"`, `"1"`, 1)
	got, err := v.Samples(t.Context(), "n1", from, to)
	want := []Sample{{1, 1764000000123, 481036337152}, {1, 1764000030000, 1000}, {-1, 1764000000000, 7}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	u, err := url.Parse(l.query)
	if err != nil || !strings.Contains(u.Query().Get("query"), `node="n1"}[120s]`) || u.Query().Get("time") != "1764000061" {
		t.Errorf("asked %s, %v", l.query, err)
	}
}

func TestMQTTHearsEnds(t *testing.T) {
	topics, err := mqtt.NewTopics("", "c1")
	if err != nil {
		t.Fatal(err)
	}
	codec, err := mqtt.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewMQTT(MQTTConfig{Servers: []string{"tcp://127.0.0.1:1"}, Name: "o", Topics: topics, Codec: codec})
	if err != nil {
		t.Fatal(err)
	}
	tell := func(kind mqtt.Kind, id string, phase api.Phase) {
		t.Helper()
		raw, err := codec.Encode(mqtt.JSON, &api.Status{ID: id, Phase: phase, Epoch: 1})
		if err == nil {
			err = v.take(t.Context(), mqtt.Inbound{Topic: topics.Of(kind, "n1", id), Payload: raw})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tell(mqtt.KindRequestStatus, "a", api.PhaseRunning)
	tell(mqtt.KindRequestStatus, "a", api.PhaseSucceeded)
	tell(mqtt.KindRequestStatus, "a", api.PhaseSucceeded)
	tell(mqtt.KindCmdStatus, "a", api.PhaseSucceeded)
	tell(mqtt.KindCmdStatus, "b", api.PhaseFailed)
	got, whole, err := v.Commands(t.Context(), []Order{{ID: "a", Via: "mqtt", Answered: true}, {ID: "b", Via: "rest", Answered: true}})
	want := map[string]Life{"a": {Finals: []api.Phase{"succeeded"}, Said: []api.Phase{"succeeded"}, Due: true}, "b": {Said: []api.Phase{"failed"}}}
	if err != nil || whole || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, %v", got, whole, err)
	}
}

func TestValuesTellWhereTheyComeFrom(t *testing.T) {
	for _, c := range [][3]int{{0, 0, 0}, {MaxNodes - 1, MaxSeries - 1, MaxRows - 1}, {1, 2, 3}, {99999, 0, 1}} {
		n, s, r, ok := ParseValue(Value(c[0], c[1], c[2]))
		if !ok || n != c[0] || s != c[1] || r != c[2] {
			t.Errorf("%v became %d %d %d %v", c, n, s, r, ok)
		}
	}
	for _, v := range []float64{-1, 0.5, 1 << 53, 1e300} {
		if _, _, _, ok := ParseValue(v); ok {
			t.Errorf("%v passes", v)
		}
	}
	for text, want := range map[string]int{"swarm_s0": 0, "swarm_s12": 12, "swarm_s012": -1, "swarm_s-1": -1, "up": -1} {
		if got := seriesOf(text); got != want {
			t.Errorf("%s is series %d", text, got)
		}
	}
}
