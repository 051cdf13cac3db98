package kube

import (
	"os"
	"strings"
	"testing"
)

// TestTheChartHasTheRightsOfTheBase: the chart's roles are made from its copy of rbac.yaml, and from nothing else. A chart holds no file
// from outside its directory, and not every tool follows a link there.
func TestTheChartHasTheRightsOfTheBase(t *testing.T) {
	const chart = "../helm/skerry-cluster/"
	copied, err := os.ReadFile(chart + "files/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if string(copied) != RBAC() {
		t.Errorf("%sfiles/rbac.yaml is another: cp install/kube/rbac.yaml install/helm/skerry-cluster/files", chart)
	}
	templates, err := os.ReadDir(chart + "templates")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range templates {
		text, err := os.ReadFile(chart + "templates/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "verbs:") || strings.Contains(string(text), "kind: ClusterRole") {
			t.Errorf("%s grants rights of its own; wanted them in install/kube/rbac.yaml", f.Name())
		}
	}
}
