package kube

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheProgramsAreOfOneVersion(t *testing.T) {
	p := cluster(t)
	version := object(t, kubectl(t, p, "version", "-o", "json"))
	for _, side := range []string{"clientVersion", "serverVersion"} {
		if got := version[side].(map[string]any)["gitVersion"]; got != Version {
			t.Errorf("%s is %v; wanted %s", side, got, Version)
		}
	}
	raw, err := os.ReadFile(filepath.Join("parts", "go.mod"))
	if err != nil || !strings.Contains(string(raw), "k8s.io/kubernetes "+Version) {
		t.Errorf("parts/go.mod does not name %s (%v)", Version, err)
	}
}

const worker = `{apiVersion: v1, kind: Node, metadata: {name: %s}}`

// ready makes a node's status that the scheduler likes.
const readyStatus = `{"status":{"capacity":{"cpu":"4","memory":"4Gi","pods":"50"},"allocatable":{"cpu":"4","memory":"4Gi","pods":"50"},
"conditions":[{"type":"Ready","status":"True","reason":"Test","lastHeartbeatTime":%[1]q,"lastTransitionTime":%[1]q}]}}`

func addNode(t *testing.T, p *ControlPlane, name string) {
	t.Helper()
	apply(t, p, fmt.Sprintf(worker, name), "create", "-f", "-")
	kubectl(t, p, "patch", "node", name, "--subresource=status", "-p", fmt.Sprintf(readyStatus, time.Now().UTC().Format(time.RFC3339)))
}

const workloads = `
{apiVersion: apps/v1, kind: Deployment, metadata: {name: deployment}, spec: {replicas: 2, selector: {matchLabels: {a: deployment}},
  template: {metadata: {labels: {a: deployment}}, spec: {containers: [{name: c, image: x}]}}}}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: daemonset}, spec: {selector: {matchLabels: {a: daemonset}},
  template: {metadata: {labels: {a: daemonset}}, spec: {containers: [{name: c, image: x}]}}}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: job}, spec: {
  template: {metadata: {labels: {a: job}}, spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}}
`

func TestPodsAreMadePlacedAndCollected(t *testing.T) {
	p := cluster(t)
	namespace(t, p, "workloads")
	addNode(t, p, "worker")
	defer kubectl(t, p, "delete", "node", "worker")
	apply(t, p, workloads, "-n", "workloads", "apply", "-f", "-")
	for owner, want := range map[string]int{"deployment": 2, "daemonset": 1, "job": 1} {
		eventually(t, time.Minute, "the pods of "+owner+" are bound", func() error {
			out, err := p.Admin.Kubectl(t.Context(), "-n", "workloads", "get", "pods", "-l", "a="+owner, "-o", "jsonpath={.items[*].spec.nodeName}")
			if nodes := strings.Fields(out); err != nil || len(nodes) != want || nodes[0] != "worker" {
				return fmt.Errorf("on %v, %w; wanted %d on worker", nodes, err, want)
			}
			return nil
		})
	}
	kubectl(t, p, "-n", "workloads", "delete", "deployment", "deployment")
	eventually(t, time.Minute, "pods without an owner are deleted", func() error {
		out, err := p.Admin.Kubectl(t.Context(), "-n", "workloads", "get", "pods", "-l", "a=deployment", "-o", "jsonpath={.items[*].metadata.deletionTimestamp}")
		if err == nil && len(strings.Fields(out)) != 2 {
			err = fmt.Errorf("deleted at %q; wanted both", out)
		}
		return err
	})
}

func TestRolesAreKept(t *testing.T) {
	p := cluster(t)
	eve, err := p.User("eve", "people")
	if err != nil {
		t.Fatal(err)
	}
	own, err := p.User("system:node:own", "system:nodes")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"own", "other"} {
		apply(t, p, fmt.Sprintf(worker, name), "create", "-f", "-")
		defer kubectl(t, p, "delete", "node", name)
	}
	_, err = eve.Kubectl(t.Context(), "get", "nodes")
	_, label := own.Kubectl(t.Context(), "label", "node", "other", "a=b")
	_, taint := own.Kubectl(t.Context(), "label", "node", "own", "node-restriction.kubernetes.io/a=b")
	if err := errors.Join(refusedWith(err, `User "eve" cannot list resource "nodes"`), refusedWith(label, "cannot read 'other', only its own Node object"),
		refusedWith(taint, "is not allowed to modify labels")); err != nil {
		t.Error(err)
	}
	if _, err := own.Kubectl(t.Context(), "label", "node", "own", "a=b"); err != nil {
		t.Error(err)
	}
	kubectl(t, p, "create", "clusterrolebinding", "people-view", "--clusterrole=view", "--group=people")
	eventually(t, time.Minute, "eve may list pods", func() error {
		_, err := eve.Kubectl(t.Context(), "get", "pods")
		return err
	})
}

// TestItIsAwayAndComesBack has a control plane of its own.
func TestItIsAwayAndComesBack(t *testing.T) {
	p := Start(t, Options{NodeGrace: 3 * time.Second})
	kubectl(t, p, "create", "configmap", "kept", "--from-literal=a=b")
	for name, away := range map[string]func() error{"stopped": p.StopAPIServer, "killed": p.KillAPIServer} {
		if err := away(); err != nil {
			t.Fatal(err)
		}
		_, err := p.Admin.Kubectl(t.Context(), "get", "configmap", "kept")
		if err := refusedWith(err, "refused"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := kubectl(t, p, "get", "configmap", "kept", "-o", "jsonpath={.data.a}"); got != "b" {
			t.Errorf("%s: kept %q", name, got)
		}
	}
	addNode(t, p, "silent") // and the controllers found the API server again
	eventually(t, time.Minute, "a node without a Lease is tainted", func() error {
		out, err := p.Admin.Kubectl(t.Context(), "get", "node", "silent", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.spec.taints[*].key}`)
		if err == nil && (!strings.HasPrefix(out, "Unknown") || !strings.Contains(out, "node.kubernetes.io/unreachable")) {
			err = errors.New(out)
		}
		return err
	})
}
