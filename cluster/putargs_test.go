package cluster

import (
	"maps"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/rest"
	"github.com/skerry-edge/skerry/mqtt"
)

// TestAFileGoesToNodesThatAreOlder has nodes whose file.put does not know newMode, and refuses what it does not know.
func TestAFileGoesToNodesThatAreOlder(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 1, false)
	now := api.At(time.Now())
	told := func(epoch uint64, args ...string) {
		t.Helper()
		put := api.Verb{Name: "file.put", Role: api.RoleAdmin, Args: api.Schema{Type: "object", Properties: map[string]api.Schema{}}}
		for _, name := range args {
			put.Args.Properties[name] = api.Schema{Type: "string"}
		}
		d.say(r.topic(mqtt.KindBirth, "n1", ""), true, api.Birth{Node: "n1", Cluster: "c1", Epoch: epoch, Boot: "b", At: now, TimeQuality: api.TimeSynced,
			Started: now, Version: "1.0.0", Host: api.Host{Arch: "amd64"}, Verbs: []api.Verb{put}, IntervalMillis: 10_000})
		eventually(t, "its verbs are known", func() bool {
			verbs, _ := r.Agent.registry.Verbs("n1")
			return len(verbs) == 1 && len(verbs[0].Args.Properties) == len(args)
		})
	}
	wants := func(u rest.Upload, want map[string]any) {
		t.Helper()
		u.Node = "n1"
		got := files{&streams{agent: r.Agent}}.putArgs(u)
		for _, name := range []string{"path", "size", "sha256"} {
			delete(got, name)
		}
		if !maps.Equal(got, want) {
			t.Errorf("%+v: %v; wanted %v", u, got, want)
		}
	}
	told(1, "path", "mode")
	wants(rest.Upload{NewMode: "0600"}, map[string]any{"mode": "0600"})
	wants(rest.Upload{NewMode: "0600", Mode: "0640"}, map[string]any{"mode": "0640"})
	told(2, "path", "mode", "newMode")
	wants(rest.Upload{NewMode: "0600"}, map[string]any{"newMode": "0600"})
	wants(rest.Upload{NewMode: "0600", Mode: "0640"}, map[string]any{"newMode": "0600", "mode": "0640"})
	wants(rest.Upload{}, map[string]any{})
}
