package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/test/description"
	"go.yaml.in/yaml/v3"
)

var crds sync.Once

// withCRDs returns the shared control plane with our kinds.
func withCRDs(t *testing.T) *ControlPlane {
	t.Helper()
	p := cluster(t)
	crds.Do(func() {
		kubectl(t, p, "apply", "-f", root("install", "kube", "crd"))
		kubectl(t, p, "wait", "--for=condition=Established", "--timeout=60s", "-f", root("install", "kube", "crd"))
		apply(t, p, "{apiVersion: v1, kind: Namespace, metadata: {name: mlsysops}}", "apply", "-f", "-") // rbac.yaml has it too
	})
	return p
}

func TestTheCRDsAreEstablished(t *testing.T) {
	p := withCRDs(t)
	files, err := os.ReadDir(root("install", "kube", "crd"))
	if err != nil {
		t.Fatal(err)
	}
	list := object(t, kubectl(t, p, "get", "-f", root("install", "kube", "crd"), "-o", "json"))
	items := list["items"].([]any)
	if len(items) != len(files) {
		t.Errorf("%d CRDs of %d files", len(items), len(files))
	}
	for _, item := range items {
		var crd struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status string }
			}
		}
		if err := json.Unmarshal([]byte(jsonOf(t, item)), &crd); err != nil {
			t.Fatal(err)
		}
		state := map[string]string{}
		for _, c := range crd.Status.Conditions {
			state[c.Type] = c.Status
		}
		want := map[string]string{"Established": "True", "NamesAccepted": "True"} // and nothing about its schema
		if !maps.Equal(state, want) {
			t.Errorf("%s is %v; wanted %v", crd.Metadata.Name, state, want)
		}
	}
	if again := kubectl(t, p, "apply", "-f", root("install", "kube", "crd")); strings.Count(again, " unchanged") != len(files) {
		t.Errorf("applied again:\n%s", again)
	}
}

// TestEveryDescriptionIsKept applies a site's description files: the wrapper goes, the name becomes the object's.
func TestEveryDescriptionIsKept(t *testing.T) {
	p := withCRDs(t)
	text, err := os.ReadFile(root("test", "crd", "testdata", "samples", "descriptions.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, doc := range strings.Split(string(text), "\n---\n") {
		var wrapped map[string]map[string]any
		if err := yaml.Unmarshal([]byte(doc), &wrapped); err != nil {
			t.Fatal(err)
		}
		for kind, fields := range wrapped {
			seen[kind] = true
			name := fields["name"].(string)
			delete(fields, "name")
			keeps(t, p, kind, map[string]map[string]any{name: fields})
		}
	}
	if len(seen) != len(description.Kinds) {
		t.Errorf("described %v; wanted every one of %v", seen, description.Kinds)
	}
}

// TestEveryFieldAndWordIsKept fills every field of the framework's schemas.
func TestEveryFieldAndWordIsKept(t *testing.T) {
	p := withCRDs(t)
	for _, kind := range description.Kinds {
		fields, err := description.ReadFields(root("test", "crd", "testdata", "tree", kind+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		objects := map[string]map[string]any{}
		for i, o := range fields.Objects() {
			objects[fmt.Sprintf("full-%d", i)] = o
		}
		keeps(t, p, kind, objects)
		t.Logf("%-18s %2d objects with every field", kind, len(objects))
	}
}

// keeps creates objects of one kind, by their names, and holds that each is kept as it was given.
func keeps(t *testing.T, p *ControlPlane, kind string, objects map[string]map[string]any) {
	t.Helper()
	var items []any
	for name, fields := range objects {
		item := map[string]any{"apiVersion": groups[kind], "kind": kind, "metadata": map[string]any{"name": name, "namespace": "mlsysops"}}
		maps.Copy(item, fields)
		items = append(items, item)
	}
	apply(t, p, jsonOf(t, map[string]any{"apiVersion": "v1", "kind": "List", "items": items}), "create", "--validate=strict", "-f", "-")
	for name, fields := range objects {
		got := object(t, kubectl(t, p, "-n", "mlsysops", "get", kind, name, "-o", "json"))
		for _, head := range []string{"apiVersion", "kind", "metadata"} {
			delete(got, head)
		}
		if want := object(t, jsonOf(t, fields)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s: given\n%s\nkept\n%s", kind, name, jsonOf(t, want), jsonOf(t, got))
		}
	}
	kubectl(t, p, append([]string{"-n", "mlsysops", "delete", kind}, slices.Collect(maps.Keys(objects))...)...)
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestACommandIsNeverChanged(t *testing.T) {
	p := withCRDs(t)
	apply(t, p, "{apiVersion: edge.mlsysops.eu/v1alpha1, kind: NodeCommand, metadata: {name: once, namespace: mlsysops}, "+
		"spec: {node: pi-a, verb: ping, deadline: 30s}}", "create", "-f", "-")
	patch := func(patch string, more ...string) error {
		_, err := p.Admin.Kubectl(t.Context(), append([]string{"-n", "mlsysops", "patch", "nodecommand", "once", "--type=merge", "-p", patch}, more...)...)
		return err
	}
	for _, change := range []string{`{"spec":{"node":"pi-b"}}`, `{"spec":{"verb":"reboot"}}`, `{"spec":{"deadline":"40s"}}`,
		`{"spec":{"args":{"count":3}}}`, `{"spec":{"ttlSecondsAfterFinished":5}}`} {
		if err := refusedWith(patch(change), "create another one"); err != nil {
			t.Errorf("%s: %v", change, err)
		}
	}
	if err := patch(`{"metadata":{"labels":{"a":"b"}}}`); err != nil {
		t.Errorf("a label: %v", err)
	}
	status := func(status string) error { return patch(`{"status":`+status+`}`, "--subresource=status") }
	finished := time.Now().UTC().Format(time.RFC3339)
	if err := errors.Join(status(`{"phase":"running"}`), status(`{"phase":"failed","exitCode":3,"finished":"`+finished+`"}`)); err != nil {
		t.Error(err)
	}
	if err := refusedWith(status(`{"phase":"running","finished":null}`), "status"); err != nil {
		t.Errorf("a command that failed runs: %v", err)
	}
	if columns := kubectl(t, p, "-n", "mlsysops", "get", "nodecommand", "once"); !strings.Contains(columns, "failed") {
		t.Errorf("kubectl get shows\n%s", columns)
	}
}
