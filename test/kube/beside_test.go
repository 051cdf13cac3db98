package kube

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/test/system"
)

// TestTheInstallersAccountIsEnoughBesideK3s runs the part of install.sh that makes the account, with a k3s whose kubectl is the real one and
// goes to a real API server. The cluster agent then leads with the kubeconfig that came of it, twice made the same.
func TestTheInstallersAccountIsEnoughBesideK3s(t *testing.T) {
	p := cluster(t)
	text, err := os.ReadFile(root("install", "install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := system.Program("skerry-cluster")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// k3s.yaml has its CA inside.
	yaml := kubectl(t, p, "config", "view", "--flatten", "--raw")
	file := filepath.Join(dir, "k3s.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`set -eu
k3s() { shift; %q "$@"; }
fail() { echo "failed: $*" >&2; exit 1; }
info() { :; }
warn() { :; }
stage() { cp "$1" %q; }
work=%q etc=/nonexistent config=cluster.yaml init=none service=skerry-cluster dry_run="" k3s_yaml=%q fresh_program=%q
`, p.Admin.kubectl, filepath.Join(dir, "made"), dir, file, program)
	for _, name := range []string{"kube", "prepare_beside_k3s", "of_k3s_yaml"} {
		_, rest, found := strings.Cut(string(text), "\n"+name+"() {")
		end := "\n}\n"
		if line, _, _ := strings.Cut(rest, "\n"); strings.HasSuffix(line, "}") {
			end = "\n"
		}
		body, _, _ := strings.Cut(rest, end)
		if !found {
			t.Fatalf("install.sh has no %s()", name)
		}
		script += name + "() {" + body + end
	}
	var made []string
	for range 2 {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", script+"prepare_beside_k3s\n").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		raw, err := os.ReadFile(filepath.Join(dir, "made"))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, string(raw))
	}
	if made[0] != made[1] {
		t.Error("a second run makes another kubeconfig")
	}
	s := newSite(t, p, "beside", "kube.kubeconfig="+filepath.Join(dir, "made"))
	s.stand("leading")
	who := kubectlAs(t, p, filepath.Join(dir, "made"), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
	if who != "system:serviceaccount:mlsysops:skerry-cluster" {
		t.Errorf("the kubeconfig is %s's", who)
	}
}

// kubectlAs is kubectl with another kubeconfig.
func kubectlAs(t *testing.T, p *ControlPlane, kubeconfig string, args ...string) string {
	t.Helper()
	u := *p.Admin
	u.Kubeconfig = kubeconfig
	out, err := u.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
