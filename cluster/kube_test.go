package cluster

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/kube/order"
	"github.com/skerry-edge/skerry/cluster/kube/wave"
	"github.com/skerry-edge/skerry/configs"
)

func TestWithoutItsAPIServerTheClusterAgentIsComplete(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	r := newRig(t, map[string]string{"mode": configs.ModeKube, "kube.kubeconfig": file})
	r.enrol("n1")
	var st api.ClusterStatus
	eventually(t, "it was tried once", func() bool {
		st = must[api.ClusterStatus](r, "GET", "/v1/status", nil)
		return st.Kube == nil || st.Kube.State != "starting"
	})
	if st.Kube == nil || st.Kube.State != "down" || !strings.Contains(strings.Join(st.Trouble, "\n"), "kubernetes is out of reach") {
		t.Errorf("%+v, %q; wanted that Kubernetes is down, with the cure", st.Kube, st.Trouble)
	}
	if n := must[api.List[api.Node]](r, "GET", "/v1/nodes", nil).Items; len(n) != 1 {
		t.Errorf("%d nodes; wanted the one that enrolled", len(n))
	}
	r.stop()
	if strings.Contains(r.log.String(), "level=ERROR") {
		t.Errorf("errors in the log:\n%s", r.log)
	}
}

func TestACommandFromKubernetesTakesTheConfiguredRole(t *testing.T) {
	r := newRig(t, map[string]string{"mode": configs.ModeKube, "kube.kubeconfig": "/does/not/exist", "kube.command_role": "viewer"})
	r.enrol("n1")
	req := order.Request{ID: "kube-1", Node: "n1", Verb: "ping", By: "kube:mlsysops/x", Deadline: time.Now().Add(time.Minute)}
	_, err := kubeDoor{r.Agent}.Order(t.Context(), req)
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Status != http.StatusForbidden {
		t.Errorf("a viewer's command: %v; wanted it refused", err)
	}
	r.cfg.Kube.CommandRole = "operator"
	rec, err := kubeDoor{r.Agent}.Order(t.Context(), req)
	again, err2 := kubeDoor{r.Agent}.Order(t.Context(), req)
	if err != nil || err2 != nil || again.ID != rec.ID || rec.Phase != api.PhaseQueued {
		t.Errorf("%+v, %v, %v; wanted one command, queued", rec, err, err2)
	}
	for range 2 {
		if err := (kubeDoor{r.Agent}).Cancel(t.Context(), rec.ID, req.By); err != nil {
			t.Errorf("cancel: %v", err)
		}
	}
	if rec = must[api.CommandRecord](r, "GET", "/v1/commands/kube-1", nil); rec.Phase != api.PhaseCancelled {
		t.Errorf("%s; wanted cancelled", rec.Phase)
	}
	var seen []string
	for _, e := range r.audited() {
		if e.Via == viaKube {
			seen = append(seen, e.Action+" "+string(e.Role)+" "+e.Result[:min(len(e.Result), 2)])
		}
	}
	want := []string{"command.cancel operator ok", "command.create operator ok", "command.create viewer no"}
	if got := strings.Join(seen, ", "); !strings.HasPrefix(got, want[0]) || !strings.HasSuffix(got, want[1]+", "+want[2]) && !strings.Contains(got, want[1]) {
		t.Errorf("audited %s; wanted %q", got, want)
	}
}

func TestADeletedObjectDecommissionsTheDeviceOnce(t *testing.T) {
	r := newRig(t, map[string]string{"mode": configs.ModeKube, "kube.kubeconfig": "/does/not/exist"})
	r.enrol("n1")
	for range 2 {
		if err := (kubeFleet{r.Agent}).Decommission(t.Context(), "n1", "kube:mlsysops/n1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := (kubeFleet{r.Agent}).Decommission(t.Context(), "never-was", "kube:mlsysops/never-was"); err != nil {
		t.Errorf("of a node that nobody knows: %v; wanted nil", err)
	}
	if _, known := r.registry.Get("n1"); known {
		t.Error("the node is still there")
	}
	stone, found, err := r.registry.Tombstone("n1")
	if err != nil || !found || stone.By != "kube:mlsysops/n1" {
		t.Errorf("%+v, %v, %v; wanted a tombstone that says by whom", stone, found, err)
	}
}

// TestOnlyTheClusterAgentMakesTokensForK3s: a token of the caller's own would be in the journal and its record.
func TestOnlyTheClusterAgentMakesTokensForK3s(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, false)
	join := func(verb string, args map[string]any) error {
		_, err := r.order(t.Context(), command.Order{Node: "n1", Verb: verb, Args: args, By: "test", Deadline: time.Now().Add(time.Minute)}, restPrincipal("x", api.RoleAdmin))
		return err
	}
	if err := join(api.VerbK3sJoin, nil); err == nil || !strings.Contains(err.Error(), "no Kubernetes") {
		t.Errorf("standalone: %v; wanted that there is no Kubernetes", err)
	}
	for _, o := range []command.Order{
		{Verb: api.VerbK3sJoin, Args: map[string]any{"token": "mine"}},
		{Verb: api.VerbK3sJoin, Args: map[string]any{"sealed": map[string]any{}}},
		{Verb: api.VerbK3sJoin, Args: map[string]any{"server": 1}},
		{Verb: api.VerbK3sLeave, Args: map[string]any{"server": "https://x:6443"}},
	} {
		if _, err := joinArgs(o); err == nil {
			t.Errorf("%s with %v is taken", o.Verb, o.Args)
		}
	}
	if got, err := joinArgs(command.Order{Verb: api.VerbK3sJoin, Args: map[string]any{"server": "https://x:6443"}}); err != nil || got != "https://x:6443" {
		t.Errorf("server %q, %v", got, err)
	}
}

func TestARolloutOfKubernetesHasTheRoleThatAllFromThereHas(t *testing.T) {
	for role, want := range map[string]string{"operator": "takes the role admin", "admin": ""} {
		r := newRig(t, map[string]string{"kube.command_role": role})
		r.enrol("n1")
		store := kubeRollouts{r.Agent}
		o := wave.Order{ID: "kube-1", By: "kube:mlsysops/v14", Paused: true,
			Spec: api.RolloutSpec{Name: "v14", Version: "1.4.0", URL: "https://releases.example", Nodes: []string{"n1"}}}
		_, err := store.Take(o)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; wanted %q", role, err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, found := store.Find("v14", "kube-1")
		if _, other := store.Find("v14", "kube-2"); !found || other || got.State != api.RolloutPaused || got.By != o.By {
			t.Errorf("%+v, found %t, as another %t; wanted it paused from the beginning", got, found, other)
		}
		for _, action := range []string{"resume", "abort", "abort"} { // the second time somebody was quicker
			if err := store.Act(t.Context(), "v14", action, o.By); err != nil {
				t.Errorf("%s: %v", action, err)
			}
		}
		var did []string
		for _, e := range r.audited() {
			if e.By == o.By {
				did = append(did, e.Action+" "+e.Via)
			}
		}
		if text := strings.Join(did, ", "); !strings.Contains(text, "rollout.create kube") || !strings.Contains(text, "rollout.abort kube") {
			t.Errorf("audited: %s", text)
		}
		o.ID = "kube-2"
		if _, err := store.Take(o); err != nil {
			t.Errorf("another object of the name: %v", err)
		}
	}
}
