package swarm

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestProfileTellsEveryFault(t *testing.T) {
	p, err := ParseProfile([]byte("nodes: 7\ncadence: 5s\nchurn: {per_minute: 0.2}\nhandlers: [{verb: a, duration: 1s, fail: 0.1}, {verb: b, retry: true}]\n"))
	if err != nil || p.Nodes != 7 || p.Cadence != 5*time.Second || len(p.Handlers) != 2 || p.Series != DefaultProfile().Series {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := ParseProfile(nil); err != nil || p.Nodes != DefaultProfile().Nodes {
		t.Errorf("an empty profile: %+v, %v", p, err)
	}
	_, err = ParseProfile([]byte(`
nodes: 0
prefix: Nodes
cadence: 1ms
batch_rows: 5000
series: 5000
encoding: xml
churn: {per_minute: -1, reset: 2, away: -1s}
sleep: {share: 0.5, awake: 0s}
slow: {share: 1.5, bytes_per_second: 1, latency: 1m}
workloads: {reject: -1, delay: -1s}
handlers: [{verb: cancel}, {verb: x, duration: 2h, fail: 3}, {verb: x}]
outbox: {store: tape, memory_bytes: 1, max_bytes: 1, ack_timeout: 0s, replay_bytes_per_second: 0}
link: {keepalive: 500ms, backoff_max: 0s, stable_after: 0s}
`))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"nodes 0", "prefix Nodes", "cadence 1ms", "batch_rows 5000", "series 5000", "encoding xml", "churn.per_minute -1",
		"churn.reset 2", "churn.away -1s", "sleep {0.5", "slow.share 1.5", "slow.bytes_per_second 1", "slow.latency 1m", "workloads.reject -1",
		"workloads.delay -1s", "handlers[0].verb cancel", "handlers[1].duration 2h", "handlers[1].fail 3", "handlers[2].verb x", "outbox.store tape",
		"outbox.memory_bytes 1", "outbox.max_bytes 1", "outbox.ack_timeout 0s", "outbox.replay_bytes_per_second 0", "link.keepalive 500ms",
		"link.backoff_max 0s", "link.stable_after 0s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
	if _, err := ParseProfile([]byte("nods: 5\nseries: many\n")); err == nil || !strings.Contains(err.Error(), "nods") || !strings.Contains(err.Error(), "many") {
		t.Errorf("a misspelt field: %v", err)
	}
}

func TestScenarioTellsEveryFault(t *testing.T) {
	good := `
name: kill
limit: 5m
steps:
  - {do: ramp, nodes: 200, rate: 100}
  - {do: await, share: 1, within: 30s}
  - {do: command, verb: work, rate: 10, for: 20s, deadline: 30s, background: true}
  - {do: command, verb: work, rate: 1, for: 20s, deadline: 30s, via: mqtt}
  - {do: tier, tier: cluster, action: kill, within: 5s}
  - {do: cut, share: 0.5}
  - {do: back}
  - {do: reset, share: 1}
  - {do: hold, for: 1s}
  - {do: drain, within: 1m}
  - {do: assert, metric: online_share, op: ">=", value: 0.9}
  - {do: account}
`
	s, err := ParseScenario([]byte(good))
	if err != nil || len(s.Steps) != 12 || s.Limit != 5*time.Minute {
		t.Errorf("%+v, %v", s, err)
	}
	_, err = ParseScenario([]byte(`
limit: -1s
steps:
  - {do: dance}
  - {do: ramp, nodes: -1, share: 1}
  - {do: await, share: 2}
  - {do: command, verb: No, rate: 100000, for: 1h, deadline: 1ms, via: pigeon}
  - {do: tier, action: hug}
  - {do: assert, metric: mood, op: "!=", value: 3}
  - {do: account, for: 1s}
`))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"limit -1s", "steps[0].do dance", "steps[1].nodes", "steps[1].rate", "steps[1].share is set", "steps[2].share",
		"steps[2].within", "steps[3].verb", "steps[3].deadline", "steps[3].via", "steps[3].rate × for", "steps[4].tier", "steps[4].action",
		"steps[4].within", "steps[5].metric", "steps[5].op", "steps[6].for is set"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
	if _, err := ParseScenario(nil); err == nil || !strings.Contains(err.Error(), "steps 0") {
		t.Errorf("an empty scenario: %v", err)
	}
}

func TestAProfileThatIsPrintedIsReadAsItWas(t *testing.T) {
	var out, errs bytes.Buffer
	file := filepath.Join("..", "..", "docs", "swarm", "field.yaml")
	if code := (&Door{Out: &out, Err: &errs}).Main(t.Context(), []string{"--print-profile", "--profile", file, "--nodes", "7"}); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	want.Nodes, want.Workloads.Runtimes = 7, []string{} // printed as []
	if got, err := ParseProfile(out.Bytes()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; wanted %+v\n%s", got, err, want, &out)
	}
	if code := (&Door{Out: &out, Err: &errs}).Main(t.Context(), []string{"--print-profile", "--series", "-1"}); code != ExitUsage {
		t.Errorf("a profile with a fault is printed: exit code %d", code)
	}
}

// The page of the swarm names every key of a profile and of a step: there is no other place to find them.
func TestThePageHasEveryKey(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "swarm.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names func(of reflect.Type) []string
	names = func(of reflect.Type) (out []string) {
		for f := range of.Fields() {
			out = append(out, f.Tag.Get("yaml"))
			under := f.Type
			if under.Kind() == reflect.Slice {
				under = under.Elem()
			}
			if under.Kind() == reflect.Struct {
				out = append(out, names(under)...)
			}
		}
		return out
	}
	keys := append(names(reflect.TypeFor[Profile]()), names(reflect.TypeFor[Scenario]())...)
	if len(keys) < 40 {
		t.Errorf("only %d keys: %v", len(keys), keys)
	}
	for _, key := range append(keys, Metrics()...) {
		if !regexp.MustCompile("[`{ .,]" + regexp.QuoteMeta(key) + "[`:} .,]").Match(page) {
			t.Errorf("docs/swarm.md does not name %q", key)
		}
	}
}
