package crd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const ping = `{"spec":{"node":"pi-a","verb":"ping","deadline":"30s","args":{"count":3,"to":{"host":"x"}}}}`

func ordered(t *testing.T, s *server) *unstructured.Unstructured {
	t.Helper()
	obj, pruned, errs := s.created(t, []byte(ping))
	if len(pruned) > 0 || len(errs) > 0 {
		t.Fatalf("%s: pruned %v, errors %v", ping, pruned, errs)
	}
	return obj
}

func TestACommandIsNeverChanged(t *testing.T) {
	s := servers(t)["NodeCommand"]
	old := ordered(t, s)
	for _, c := range []struct{ from, to string }{
		{"pi-a", "pi-b"}, {`"ping"`, `"reboot"`}, {`"30s"`, `"40s"`}, {`"count":3`, `"count":4`}, {`"host":"x"`, `"host":"y"`},
		{`"count":3,`, ``}, {`,"args":{"count":3,"to":{"host":"x"}}`, ``}, {`"30s"`, `"30s","ttlSecondsAfterFinished":5`},
	} {
		if _, errs := s.updated(t, old, []byte(strings.Replace(ping, c.from, c.to, 1))); !strings.Contains(fmt.Sprint(errs), "create another one") {
			t.Errorf("%q instead of %q: %v; wanted a refusal", c.to, c.from, errs)
		}
	}
	if _, errs := s.updated(t, old, []byte(ping)); len(errs) > 0 {
		t.Errorf("the same again: %v", errs)
	}
	labelled := strings.Replace(ping, `{`, `{"metadata":{"name":"sample","namespace":"mlsysops","labels":{"a":"b"}},`, 1)
	if _, errs := s.updated(t, old, []byte(labelled)); len(errs) > 0 {
		t.Errorf("a label: %v", errs)
	}
}

func TestAnOrderGetsItsTimeToLive(t *testing.T) {
	s := servers(t)["NodeCommand"]
	if ttl, _, _ := unstructured.NestedInt64(ordered(t, s).Object, "spec", "ttlSecondsAfterFinished"); ttl != 86400 {
		t.Errorf("ttlSecondsAfterFinished is %d; wanted a day", ttl)
	}
}

func TestAnOrderIsCheckedFieldByField(t *testing.T) {
	s := servers(t)["NodeCommand"]
	for _, c := range []struct{ from, to, want string }{
		{`"30s"`, `"1h30m"`, ""}, {`"30s"`, `"2026-11-26T21:00:00Z"`, ""}, {`"30s"`, `"2026-11-26T21:00:00.5+01:00"`, ""}, {`"30s"`, `"1.5s"`, ""},
		{`"30s"`, `"0s"`, "spec.deadline"}, {`"30s"`, `"-5s"`, "spec.deadline"}, {`"30s"`, `"soon"`, "spec.deadline"},
		{`"30s"`, `""`, "spec.deadline"}, {`"30s"`, `30`, "spec.deadline"}, {`"30s"`, `"2026-11-26"`, "spec.deadline"},
		{`"deadline":"30s",`, ``, "spec.deadline"}, {`"pi-a"`, `"Pi_A"`, "spec.node"}, {`"pi-a"`, `""`, "spec.node"},
		{`"pi-a"`, `"` + strings.Repeat("a", 64) + `"`, "spec.node"}, {`"ping"`, `"rm -rf"`, "spec.verb"},
		{`"30s"`, `"30s","ttlSecondsAfterFinished":-1`, "spec.ttlSecondsAfterFinished"}, {`{"count":3,"to":{"host":"x"}}`, `"-c 3"`, "spec.args"},
	} {
		text := strings.Replace(ping, c.from, c.to, 1)
		_, _, errs := s.created(t, []byte(text))
		if c.want == "" && len(errs) > 0 || c.want != "" && !strings.Contains(fmt.Sprint(errs), c.want) {
			t.Errorf("%s: %v; wanted %q", text, errs, c.want)
		}
	}
}

// TestPhasesGoTheWayOfTheWire holds the rules of the schema against api.Phase for every pair of phases.
func TestPhasesGoTheWayOfTheWire(t *testing.T) {
	phases := []api.Phase{"", api.PhaseQueued, api.PhaseDelivered, api.PhaseAccepted, api.PhaseRunning, api.PhaseInterrupted,
		api.PhaseSucceeded, api.PhaseFailed, api.PhaseRejected, api.PhaseCancelled, api.PhaseTimedOut, api.PhaseExpired}
	s := servers(t)["NodeCommand"]
	status := func(p api.Phase) string {
		switch {
		case p == "":
			return ""
		case p.Final():
			return fmt.Sprintf(`{"phase":%q,"finished":"2026-11-26T21:00:00Z"}`, p)
		default:
			return fmt.Sprintf(`{"phase":%q}`, p)
		}
	}
	for _, from := range phases {
		for _, to := range phases {
			old, errs := s.reported(t, ordered(t, s), status(from))
			if len(errs) > 0 {
				t.Fatalf("%q at once: %v", from, errs)
			}
			_, errs = s.reported(t, old, status(to))
			if want := from == to || from == "" || from.CanBecome(to); want != (len(errs) == 0) {
				t.Errorf("%q to %q: %v; wanted it taken: %t", from, to, errs, want)
			}
		}
	}
}

func TestACommandIsFinishedExactlyWhenItsPhaseIsFinal(t *testing.T) {
	s := servers(t)["NodeCommand"]
	for status, want := range map[string]bool{
		`{"phase":"running"}`:   true,
		`{"phase":"succeeded"}`: false,
		`{"phase":"running","finished":"2026-11-26T21:00:00Z"}`:                       false,
		`{"finished":"2026-11-26T21:00:00Z"}`:                                         false,
		`{"phase":"expired","finished":"2026-11-26T21:00:00Z","outcome":"succeeded"}`: true,
		`{"phase":"done"}`: false,
		`{"phase":"queued","history":[{"phase":"queued","at":"2026-11-26T21:00:00.000001Z","side":"cluster"}],"id":"x"}`: true,
		`{"phase":"queued","history":[{"phase":"queued","at":"2026-11-26T21:00:00Z","side":"moon"}]}`:                    false,
	} {
		if _, errs := s.reported(t, ordered(t, s), status); want != (len(errs) == 0) {
			t.Errorf("%s: %v; wanted it taken: %t", status, errs, want)
		}
	}
	before := ordered(t, s)
	after, _ := s.reported(t, before, `{"phase":"running"}`)
	if _, errs := s.reported(t, after, ""); len(errs) == 0 {
		t.Error("a status is taken back")
	}
	full := `{"id":"c1","phase":"failed","reason":"exit 3","progress":"half","deadline":"2026-11-26T21:01:00Z",` +
		`"finished":"2026-11-26T21:00:00Z","exitCode":3,"output":"x","truncatedBytes":7,"result":{"any":{"thing":1}},` +
		`"history":[{"phase":"failed","at":"2026-11-26T21:00:00.000001Z","side":"node","reason":"exit 3"}],` +
		`"conditions":[{"type":"Finished","status":"True","reason":"timed_out","message":"","lastTransitionTime":"2026-11-26T21:00:00Z"}]}`
	obj, errs := s.reported(t, ordered(t, s), full)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	checkTyped(t, "NodeCommand", obj)
}
