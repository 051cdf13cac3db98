package kube

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/test/description"
)

var update = flag.Bool("update", false, "write the table of samples in docs/descriptions.md anew")

var groups = map[string]string{
	"MLSysOpsApp": "mlsysops.eu/v1", "MLSysOpsNode": "mlsysops.eu/v1", "MLSysOpsCluster": "mlsysops.eu/v1", "MLSysOpsContinuum": "mlsysops.eu/v1",
	"MLSysOpsDatacenter": "mlsysops.eu/v1", "NodeCommand": "edge.mlsysops.eu/v1alpha1",
}

var unknownField = regexp.MustCompile(`Warning: unknown field "([^"]+)"`)

// TestSamplesAreTakenAsTheDocsSay gives each sample to the API server by kubectl, and compares what becomes of it with what
// test/crd wants and with the table in docs/descriptions.md.
func TestSamplesAreTakenAsTheDocsSay(t *testing.T) {
	p := withCRDs(t)
	samples, err := description.ReadSamples(root("test", "crd", "testdata", "samples", "objects.yaml"))
	if err != nil || len(samples) < 40 {
		t.Fatalf("%d samples, %v", len(samples), err)
	}
	var table strings.Builder
	table.WriteString("| kind | what | outcome |\n|---|---|---|\n")
	for i, s := range samples {
		head := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: sample-%d, namespace: mlsysops}\n", groups[s.Kind], s.Kind, i)
		_, complaints, err := p.Admin.run(t.Context(), head+s.Text, "create", "--validate=warn", "-f", "-")
		var dropped string
		if m := unknownField.FindStringSubmatch(complaints); m != nil {
			dropped = m[1]
		}
		outcome := "accepted"
		switch {
		case err != nil:
			outcome = "refused: " + reason(complaints)
		case dropped != "":
			outcome = "refused: unknown field `" + dropped + "`; dropped with `--validate=false`"
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", strings.TrimPrefix(s.Kind, "MLSysOps"), strings.ReplaceAll(s.What, "|", "\\|"), outcome)
		if s.Refused == "" && err != nil || s.Refused != "" && !strings.Contains(complaints, s.Refused) {
			t.Errorf("%s, %s: %v %s; wanted %q", s.Kind, s.What, err, complaints, s.Refused)
		}
		if dropped != s.Dropped {
			t.Errorf("%s, %s: dropped %q; wanted %q", s.Kind, s.What, dropped, s.Dropped)
		}
	}
	t.Log("\n" + table.String())
	compareTable(t, table.String())
}

// reason is the first fault of a refusal, without what kubectl says before it.
func reason(complaints string) string {
	_, fault, found := strings.Cut(complaints, "is invalid: ")
	if !found {
		fault = complaints
	}
	fault = strings.TrimPrefix(strings.TrimSpace(fault), "* ")
	first, _, _ := strings.Cut(fault, "\n")
	return strings.ReplaceAll(first, "|", "\\|")
}

func compareTable(t *testing.T, table string) {
	t.Helper()
	const begin, end = "<!-- samples: begin -->\n", "<!-- samples: end -->"
	file := root("docs", "descriptions.md")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), begin)
	old, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s: wanted the table between %q and %q", file, begin, end)
	}
	if old == table {
		return
	}
	if !*update {
		t.Errorf("%s is stale; run: go test ./test/kube -run Samples -update", file)
		return
	}
	if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
