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
	for name, want := range map[string]string{"rbac.yaml": rbac, "rbac-k3s-join.yaml": rbacJoin, "rbac-secrets.yaml": rbacSecrets} {
		copied, err := os.ReadFile(chart + "files/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(copied) != want {
			t.Errorf("%sfiles/%s is another: cp install/kube/%[2]s install/helm/skerry-cluster/files", chart, name)
		}
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
