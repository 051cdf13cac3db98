package kube

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/system"
)

// roll applies a Rollout.
func (s *site) roll(name, spec string) {
	s.t.Helper()
	apply(s.t, s.plane, fmt.Sprintf("{apiVersion: edge.mlsysops.eu/v1alpha1, kind: Rollout, metadata: {name: %s, namespace: %s}, spec: {%s}}",
		name, agentNamespace, spec), "apply", "-f", "-")
}

// rolls wants of a rollout, as the cluster agent has it, that ok says yes to it.
func (s *site) rolls(limit time.Duration, name, what string, ok func(r api.Rollout) bool) {
	s.t.Helper()
	eventually(s.t, limit, "rollout "+name+": "+what, func() error {
		var r api.Rollout
		if err := s.client.Get(s.t.Context(), "/v1/rollouts/"+name, &r); err != nil {
			return err
		}
		if !ok(r) {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}

// publish brings releases of the node agent to the cluster agent, and returns the key that they are signed with.
func (s *site) publish(variant string, versions ...string) (trusted string) {
	s.t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	for _, version := range versions {
		program, err := system.BuildEdge(s.t.Context(), s.dir, version, variant)
		if err != nil {
			s.t.Fatal(err)
		}
		all, err := system.Release(version, program, variant, key)
		if err != nil {
			s.t.Fatal(err)
		}
		resp, err := s.client.Do(s.t.Context(), http.MethodPost, "/v1/releases", all)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			s.t.Fatal(err)
		}
	}
	return release.KeyOf(key.Public().(ed25519.PublicKey)).String()
}

// install has a device run a version that was published, from a file of its own, which says when the installer was here.
func (s *site) install(edge *system.Process, version string) {
	s.t.Helper()
	edge.Program = filepath.Join(s.dir, edge.Name+"-installed")
	raw, err := os.ReadFile(filepath.Join(s.dir, "skerry-edge-"+version))
	if err == nil {
		err = os.WriteFile(edge.Program, raw, 0o755)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestARolloutOfKubernetesUpdatesDevices has two devices run agents of one version, and brings them to the next, and one back.
func TestARolloutOfKubernetesUpdatesDevices(t *testing.T) {
	p := cluster(t)
	s := newSite(t, p, "rolling", "kube.command_role=admin")
	s.stand("leading")
	trusted := s.publish("lite", "7.0.0", "7.1.0")
	for _, name := range []string{"rol-a", "rol-b"} {
		edge := s.prepare(name, "update.keys="+trusted, "update.window=1m")
		s.install(edge, "7.0.0")
		s.start(edge)
		s.becomes("mlsysopsnode", name, online, "True")
	}

	s.roll("early", "version: 7.2.0, selector: {}")
	s.becomes("rollout", "early", ".status.phase", "pending")
	if got, err := s.field("rollout", "early", ".status.reason"); err != nil || !strings.Contains(got, "release 7.2.0 is not kept here") {
		t.Errorf("%q, %v; wanted why it waits", got, err)
	}
	kubectl(t, p, "-n", agentNamespace, "delete", "rollout", "early", "--timeout=30s")

	s.roll("v71", "version: 7.1.0, nodes: [rol-a, rol-b], batch: 1, pause: 1h")
	s.rolls(3*time.Minute, "v71", "the first device is updated", func(r api.Rollout) bool { return r.Counts.Succeeded == 1 && r.By == "kube:mlsysops/v71" })
	s.becomes("rollout", "v71", ".status.counts.succeeded", "1")
	kubectl(t, p, "-n", agentNamespace, "patch", "rollout", "v71", "--type=merge", "-p", `{"spec":{"paused":true}}`)
	s.becomes("rollout", "v71", ".status.phase", "paused")
	s.rolls(time.Second, "v71", "it is paused, and one waits", func(r api.Rollout) bool { return r.State == api.RolloutPaused && r.Counts.Waiting == 1 })
	table := kubectl(t, p, "-n", agentNamespace, "get", "rollouts")
	t.Logf("\n%s", table)
	if want := []string{"v71", "7.1.0", "paused", "1/2", "2", "1", "0"}; !strings.HasPrefix(strings.Join(strings.Fields(strings.Split(table, "\n")[1]), " "), strings.Join(want, " ")) {
		t.Errorf("%s\nwanted %v", table, want)
	}
	kubectl(t, p, "-n", agentNamespace, "patch", "rollout", "v71", "--type=merge", "-p", `{"spec":{"paused":false}}`)
	s.becomes("rollout", "v71", ".status.phase", "running")
	kubectl(t, p, "-n", agentNamespace, "delete", "rollout", "v71", "--timeout=30s")
	s.rolls(time.Second, "v71", "its deletion has aborted it", func(r api.Rollout) bool {
		return r.State == api.RolloutAborted && r.Counts.Succeeded == 1 && r.Counts.Skipped == 1
	})

	s.roll("v71", "version: 7.1.0, selector: {}, batch: 100%") // of the same name: the aborted one gives way
	kubectl(t, p, "-n", agentNamespace, "wait", "rollout/v71", "--for=condition=Succeeded", "--timeout=180s")
	for _, name := range []string{"rol-a", "rol-b"} {
		var n api.Node
		if err := s.client.Get(t.Context(), "/v1/nodes/"+name, &n); err != nil || n.Birth == nil || n.Birth.Version != "7.1.0" {
			t.Errorf("%s: %+v, %v", name, n.Birth, err)
		}
	}
	if all := s.commands("rol-a"); len(all) != 1 {
		t.Errorf("%d commands to rol-a; wanted the first update and no other", len(all))
	}
	if _, err := p.Admin.Kubectl(t.Context(), "-n", agentNamespace, "patch", "rollout", "v71", "--type=merge", "-p", `{"spec":{"version":"7.0.0"}}`); err == nil ||
		!strings.Contains(err.Error(), "create another one") {
		t.Errorf("its version was changed: %v", err)
	}

	s.roll("back", "version: 7.0.0, nodes: [rol-b], force: true, nodeTime: 10m")
	s.rolls(time.Minute, "back", "it is begun", func(r api.Rollout) bool { return r.Counts.Updating+r.Counts.Succeeded == 1 })
	if err := s.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	s.start(s.cluster)
	s.learn()
	kubectl(t, p, "-n", agentNamespace, "wait", "rollout/back", "--for=condition=Succeeded", "--timeout=180s")
	// While the agent is there to take the finalizers off: other tests delete the namespace.
	kubectl(t, p, "-n", agentNamespace, "delete", "rollouts", "--all", "--timeout=60s")
}
