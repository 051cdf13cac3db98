package crd

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEveryColumnHasAValue has kubectl's table made of an object whose description and status are filled: a column whose path
// is wrong is empty.
func TestEveryColumnHasAValue(t *testing.T) {
	const ready = `"conditions":[{"type":"Ready","status":"True","reason":"Settled","message":"","lastTransitionTime":"2026-11-26T21:00:00Z"}]`
	group := `{"members":3,"readyMembers":2,` + ready + `}`
	status := map[string]string{
		"MLSysOpsApp":        `{"phase":"Deployed",` + ready + `}`,
		"MLSysOpsNode":       `{"presence":"online","lastSeen":"2026-11-26T21:00:00Z",` + ready + `}`,
		"MLSysOpsCluster":    group,
		"MLSysOpsContinuum":  group,
		"MLSysOpsDatacenter": group,
		"NodeCommand":        `{"phase":"failed","exitCode":3,"reason":"exit 3","deadline":"2026-11-26T21:01:00Z","finished":"2026-11-26T21:00:00Z"}`,
		"Rollout":            `{"phase":"paused","reason":"by ann","progress":"1/3","counts":{"nodes":9,"waiting":5,"updating":1,"succeeded":2,"failed":1,"skipped":0}}`,
	}
	for kind, s := range servers(t) {
		text := []byte(map[string]string{"NodeCommand": ping, "Rollout": roll}[kind])
		if len(text) == 0 {
			var err error
			if text, err = json.Marshal(readFields(t, kind).Objects()[0]); err != nil {
				t.Fatal(err)
			}
		}
		created, _, errs := s.created(t, text)
		if len(errs) > 0 {
			t.Fatalf("%s: %v", kind, errs)
		}
		created.SetCreationTimestamp(metav1.Now())
		obj, errs := s.reported(t, created, status[kind])
		if len(errs) > 0 {
			t.Fatalf("%s: %v", kind, errs)
		}
		columns := readCRDs(t)[kind].Spec.Versions[0].AdditionalPrinterColumns
		convertor, err := tableconvertor.New(columns)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		table, err := convertor.ConvertToTable(t.Context(), obj, &metav1.TableOptions{})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		var line strings.Builder
		for i, cell := range table.Rows[0].Cells {
			name := table.ColumnDefinitions[i].Name
			fmt.Fprintf(&line, "%s=%v ", name, cell)
			if cell == nil || cell == "" || cell == "<none>" || cell == "<unknown>" {
				t.Errorf("%s: column %s is empty", kind, name)
			}
		}
		t.Logf("%-18s %s", kind, line.String())
	}
}
