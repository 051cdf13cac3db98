package crd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/test/description"
	"sigs.k8s.io/yaml"
)

// TestEveryDescriptionIsAcceptedAndKept converts a site's description files as the framework does: the wrapper goes, the name
// becomes the object's. Nothing of them may be dropped.
func TestEveryDescriptionIsAcceptedAndKept(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "samples", "descriptions.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ours, seen := servers(t), map[string]bool{}
	for _, doc := range strings.Split(string(text), "\n---\n") {
		var wrapped map[string]map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &wrapped); err != nil {
			t.Fatal(err)
		}
		for kind, fields := range wrapped {
			seen[kind] = true
			fields["metadata"] = map[string]any{"name": fields["name"], "namespace": "mlsysops"}
			delete(fields, "name")
			keeps(t, ours[kind], kind, fields)
		}
	}
	if len(seen) != len(description.Kinds) {
		t.Errorf("described %v; wanted every one of %v", seen, description.Kinds)
	}
}

// TestEveryFieldAndWordIsAcceptedAndKept fills every field of the framework's schema, in as many objects as the longest list
// of words needs.
func TestEveryFieldAndWordIsAcceptedAndKept(t *testing.T) {
	ours := servers(t)
	for _, kind := range description.Kinds {
		objects := readFields(t, kind).Objects()
		for _, fields := range objects {
			fields["metadata"] = map[string]any{"name": "sample", "namespace": "mlsysops"}
			keeps(t, ours[kind], kind, fields)
		}
		t.Logf("%-18s %2d objects with every field", kind, len(objects))
	}
}

// keeps holds that an object is created and that what is kept is what was given.
func keeps(t *testing.T, s *server, kind string, fields map[string]any) {
	t.Helper()
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	obj, pruned, errs := s.created(t, raw)
	if len(pruned) > 0 || len(errs) > 0 {
		t.Errorf("%s: %s\npruned %v, errors %v", kind, raw, pruned, errs)
	}
	checkTyped(t, kind, obj)
}

// TestSamples prints, with -v, what becomes of each.
func TestSamples(t *testing.T) {
	ours := servers(t)
	samples, err := description.ReadSamples(filepath.Join("testdata", "samples", "objects.yaml"))
	if err != nil || len(samples) < 30 {
		t.Fatalf("%d samples, %v", len(samples), err)
	}
	var table strings.Builder
	for _, c := range samples {
		raw, err := yaml.YAMLToJSON([]byte(c.Text))
		if err != nil {
			t.Fatalf("%s: %v", c.Text, err)
		}
		_, pruned, errs := ours[c.Kind].created(t, raw)
		outcome := "accepted"
		if len(errs) > 0 {
			outcome = "refused: " + errs[0].Error()
		}
		if len(pruned) > 0 {
			outcome += ", dropped: " + strings.Join(pruned, " ")
		}
		fmt.Fprintf(&table, "\n%-18s %-38s %s", strings.TrimPrefix(c.Kind, "MLSysOps"), c.What, outcome)
		if c.Refused == "" && len(errs) > 0 || c.Refused != "" && !strings.Contains(fmt.Sprint(errs), c.Refused) {
			t.Errorf("%s, %s: %v; wanted %q", c.Kind, c.What, errs, c.Refused)
		}
		if c.Dropped != strings.Join(pruned, " ") {
			t.Errorf("%s, %s: dropped %v; wanted %q", c.Kind, c.What, pruned, c.Dropped)
		}
	}
	t.Log(table.String())
}
