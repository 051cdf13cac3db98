package crd

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const roll = `{"spec":{"version":"1.4.0","url":"https://a.example","force":true,"selector":{"matchLabels":{"site":"a"}},"batch":"20%","successPercent":90,` +
	`"pause":"10m","nodeTime":"2h","window":"22:00-04:00","paused":true}}`

func rolled(t *testing.T, s *server, text string) *unstructured.Unstructured {
	t.Helper()
	obj, pruned, errs := s.created(t, []byte(text))
	if len(pruned) > 0 || len(errs) > 0 {
		t.Fatalf("%s: pruned %v, errors %v", text, pruned, errs)
	}
	return obj
}

func TestOfARolloutOnlyPausedAndAbortAreEverChanged(t *testing.T) {
	s := servers(t)["Rollout"]
	old := rolled(t, s, roll)
	for _, c := range []struct{ from, to string }{
		{"1.4.0", "1.4.1"}, {"a.example", "b.example"}, {`"url":"https://a.example",`, ``}, {`"force":true,`, ``}, {`"site":"a"`, `"site":"b"`},
		{`{"matchLabels":{"site":"a"}}`, `{}`}, {`"selector":{"matchLabels":{"site":"a"}}`, `"nodes":["pi-a"]`}, {`"20%"`, `3`}, {`"batch":"20%",`, ``},
		{"90", "91"}, {`"10m"`, `"11m"`}, {`"2h"`, `"3h"`}, {`22:00`, `23:00`}, {`"window":"22:00-04:00",`, ``},
	} {
		if _, errs := s.updated(t, old, []byte(strings.Replace(roll, c.from, c.to, 1))); !strings.Contains(fmt.Sprint(errs), "create another one") {
			t.Errorf("%q instead of %q: %v; wanted a refusal", c.to, c.from, errs)
		}
	}
	for _, to := range []string{`"paused":true`, `"paused":false`, `"paused":false,"abort":true`, `"abort":true`} {
		if _, errs := s.updated(t, old, []byte(strings.Replace(roll, `"paused":true`, to, 1))); len(errs) > 0 {
			t.Errorf("%s: %v", to, errs)
		}
	}
	aborted := rolled(t, s, strings.Replace(roll, `"paused":true`, `"abort":true`, 1))
	if _, errs := s.updated(t, aborted, []byte(roll)); !strings.Contains(fmt.Sprint(errs), "not taken back") {
		t.Errorf("an abort is taken back: %v", errs)
	}
}

func TestARolloutIsCheckedFieldByFieldAndFilledIn(t *testing.T) {
	s := servers(t)["Rollout"]
	short := rolled(t, s, `{"spec":{"version":"1.4.0","selector":{}}}`)
	for field, want := range map[string]any{"batch": "10%", "successPercent": int64(100), "pause": "0s", "nodeTime": "1h"} {
		if got, _, _ := unstructured.NestedFieldNoCopy(short.Object, "spec", field); got != want {
			t.Errorf("%s is %v; wanted %v", field, got, want)
		}
	}
	for _, c := range []struct{ from, to, want string }{
		{`"20%"`, `5`, ""}, {`"20%"`, `"5"`, ""}, {`"20%"`, `"100%"`, ""}, {`"10m"`, `"1h30m"`, ""}, {`"selector":{"matchLabels":{"site":"a"}}`, `"nodes":["a","b"]`, ""},
		{`"20%"`, `0`, "spec.batch"}, {`"20%"`, `-1`, "spec.batch"}, {`"20%"`, `"0%"`, "spec.batch"}, {`"20%"`, `"101%"`, "spec.batch"}, {`"20%"`, `"few"`, "spec.batch"},
		{"90", "0", "spec.successPercent"}, {"90", "101", "spec.successPercent"}, {`"10m"`, `"soon"`, "spec.pause"}, {`"10m"`, `"-1m"`, "spec.pause"},
		{`"2h"`, `"59s"`, "spec.nodeTime"}, {`"2h"`, `"1d"`, "spec.nodeTime"}, {"22:00-04:00", "22-4", "spec.window"}, {"22:00-04:00", "24:00-04:00", "spec.window"},
		{`"selector":{"matchLabels":{"site":"a"}},`, ``, "either selector or nodes"}, {`"selector":`, `"nodes":["a"],"selector":`, "either selector or nodes"},
		{`"selector":{"matchLabels":{"site":"a"}}`, `"nodes":["A b"]`, "spec.nodes"}, {`"version":"1.4.0",`, ``, "spec.version"}, {"1.4.0", "", "spec.version"},
	} {
		text := strings.Replace(roll, c.from, c.to, 1)
		_, _, errs := s.created(t, []byte(text))
		if c.want == "" && len(errs) > 0 || c.want != "" && !strings.Contains(fmt.Sprint(errs), c.want) {
			t.Errorf("%s: %v; wanted %q", text, errs, c.want)
		}
	}
	long := `{"metadata":{"name":"` + strings.Repeat("a", 64) + `","namespace":"mlsysops"},` + strings.TrimPrefix(roll, "{")
	if _, _, errs := s.created(t, []byte(long)); !strings.Contains(fmt.Sprint(errs), "63 characters") {
		t.Errorf("a long name: %v", errs)
	}
}

func TestTheEndOfARolloutIsFinal(t *testing.T) {
	s := servers(t)["Rollout"]
	phases := []string{"pending", "running", "paused", "succeeded", "failed", "aborted"}
	for _, from := range phases {
		old, errs := s.reported(t, rolled(t, s, roll), fmt.Sprintf(`{"phase":%q}`, from))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		final := from == "succeeded" || from == "failed" || from == "aborted"
		for _, to := range phases {
			_, errs := s.reported(t, old, fmt.Sprintf(`{"phase":%q,"counts":{"nodes":1,"waiting":0,"updating":0,"succeeded":1,"failed":0,"skipped":0}}`, to))
			if want := !final || from == to; want != (len(errs) == 0) {
				t.Errorf("%s to %s: %v; wanted it taken: %t", from, to, errs, want)
			}
		}
	}
	if _, errs := s.reported(t, rolled(t, s, roll), `{"phase":"done"}`); len(errs) == 0 {
		t.Error("an unknown phase is taken")
	}
}
