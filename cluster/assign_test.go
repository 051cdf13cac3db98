package cluster

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

func TestAnAssignedVersionIsInTheDesiredDocumentUntilItIsTakenBack(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 1, false)
	desired := func() (out api.Desired) {
		all := d.messages(r.topic(mqtt.KindDesired, "n1", ""))
		if len(all) == 0 {
			return out
		}
		var signed api.Signed
		if err := json.Unmarshal(all[len(all)-1].Payload(), &signed); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(signed.Payload, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	put := func(body string) (int, string) { return r.call(r.root(), "PUT", "/v1/nodes/n1/agent", body) }
	wanted := func() api.AgentWant {
		t.Helper()
		n := must[api.Node](r, "GET", "/v1/nodes/n1", nil)
		if n.Wanted == nil {
			t.Fatal("no version is wanted")
		}
		return *n.Wanted
	}
	const mirror = `"url":"https://releases.example"`
	if status, text := put(`{"version":"v1.4.0",` + mirror + `,"window":"22:00-04:00"}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	first := wanted()
	eventually(t, "the node is told", func() bool { return desired().Agent != nil && *desired().Agent == first })
	if first.Version != "1.4.0" || first.Window != "22:00-04:00" || first.Try == 0 {
		t.Errorf("%+v", first)
	}
	generation := desired().Generation

	if put(`{"version":"1.4.0",` + mirror + `,"window":"22:00-04:00"}`); wanted() != first {
		t.Errorf("%+v; wanted the same to change nothing", wanted())
	}
	if put(`{"version":"1.4.0",` + mirror + `,"window":"22:00-04:00","retry":true}`); wanted().Try <= first.Try {
		t.Errorf("%+v; wanted a retry to be another try", wanted())
	}
	if err := r.Agent.SetWorkloads("n1", func([]api.Workload, int) []api.Workload { return []api.Workload{} }); err != nil {
		t.Fatal(err)
	}
	again := wanted()
	must[struct{}](r, "DELETE", "/v1/nodes/n1/agent", nil)
	eventually(t, "the node is told that none is wanted", func() bool { d := desired(); return d.Generation > generation && d.Agent == nil })
	if must[api.Node](r, "GET", "/v1/nodes/n1", nil).Wanted != nil {
		t.Error("it is wanted still")
	}
	if put(`{"version":"1.4.0",` + mirror + `}`); wanted().Try <= again.Try {
		t.Errorf("%+v after %+v; wanted a version that is stated anew to be another try", wanted(), again)
	}

	last := wanted()
	must[struct{}](r, "DELETE", "/v1/nodes/n1", nil)
	r.online("n1", r.enrol("n1"), 2, false)
	if put(`{"version":"1.4.0",` + mirror + `}`); wanted().Try <= last.Try {
		t.Errorf("%+v after %+v; wanted another try of a device that was removed and is back, which remembers the last", wanted(), last)
	}

	for body, want := range map[string]string{
		`{"version":"1.5.0"}`:                             "not kept here",
		`{"version":"new",` + mirror + `}`:                "wanted MAJOR.MINOR.PATCH",
		`{"version":"1.5.0",` + mirror + `,"window":"x"}`: "window",
		`{"version":"1.5.0","until":"x"}`:                 "until",
	} {
		if status, text := put(body); status < 400 || status >= 500 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s; wanted %q", body, status, text, want)
		}
	}
	if status, text := r.call(r.root(), "PUT", "/v1/nodes/none/agent", `{"version":"1.4.0",`+mirror+`}`); status != 404 {
		t.Errorf("a node that is not known: %d %s", status, text)
	}
	if status, text := r.call(r.access(api.RoleOperator), "DELETE", "/v1/nodes/n1/agent", ""); status != 403 {
		t.Errorf("an operator: %d %s", status, text)
	}

	spec := api.RolloutSpec{Name: "r", Version: "1.5.0", URL: "https://releases.example", Nodes: []string{"n1"}}
	if _, err := (rollouts{r.Agent}).Create(spec, restPrincipal("ann", api.RoleAdmin)); err == nil || !strings.Contains(err.Error(), "assigned version 1.4.0") {
		t.Errorf("a rollout to another version: %v", err)
	}
	must[struct{}](r, "DELETE", "/v1/nodes/n1/agent", nil)
	must[api.Rollout](r, "POST", "/v1/rollouts", spec)
	if status, text := put(`{"version":"1.4.0",` + mirror + `}`); status != 409 || !strings.Contains(text, "rollout r") {
		t.Errorf("assigned during a rollout: %d %s", status, text)
	}
}

func TestAnAssignedVersionSurvivesARestartOfTheClusterAgent(t *testing.T) {
	r := newRig(t, nil)
	r.enrol("n1")
	must[api.Node](r, "PUT", "/v1/nodes/n1/agent", api.AgentRequest{Version: "1.4.0", URL: "https://releases.example"})
	r.stop()
	r.start()
	if n := must[api.Node](r, "GET", "/v1/nodes/n1", nil); n.Wanted == nil || n.Wanted.Version != "1.4.0" {
		t.Errorf("%+v", n.Wanted)
	}
}
