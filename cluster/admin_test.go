package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAContainerTellsItsAdministratorAndItsRights: in an image without a shell nothing else could print either.
func TestAContainerTellsItsAdministratorAndItsRights(t *testing.T) {
	dir := t.TempDir()
	door := func(args ...string) (string, string, int) {
		var out, complaints bytes.Buffer
		d := &Door{Out: &out, Err: &complaints}
		code := d.Main(t.Context(), append(args, "--set", "dir="+dir))
		return out.String(), complaints.String(), code
	}
	if out, complaints, code := door("admin"); code != ExitError || out != "" || !strings.Contains(complaints, "admin.yaml: no such file or directory; wanted the file that the first run writes") {
		t.Errorf("before the first run: %d, %q, %q", code, out, complaints)
	}
	const context = "current: local\ncontexts: []\n"
	if err := os.WriteFile(filepath.Join(dir, adminFile), []byte(context), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, complaints, code := door("admin"); code != ExitOK || out != context {
		t.Errorf("admin: %d, %q, %q; wanted the file as it stands", code, out, complaints)
	}
	want, err := os.ReadFile(filepath.Join("..", "install", "kube", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if out, complaints, code := door("rbac", "--set", "mode=nonsense"); code != ExitOK || out != string(want) {
		t.Errorf("rbac: %d, %q; wanted rbac.yaml whatever the configuration is, got\n%.200s", code, complaints, out)
	}
	join, err := os.ReadFile(filepath.Join("..", "install", "kube", "rbac-k3s-join.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if out, _, code := door("rbac", "--k3s-join"); code != ExitOK || out != string(want)+"---\n"+string(join) {
		t.Errorf("rbac --k3s-join: %d\n%s", code, out)
	}
	if strings.Contains(string(want), "kube-system") || !strings.Contains(string(join), "kube-system") {
		t.Error("the rights that nobody asked for have a say in kube-system")
	}
	out, _, code := door("rbac", "--secrets-in", "barn,field")
	if code != ExitOK || strings.Contains(out, "resources: [secrets, configmaps]") || !strings.Contains(out, "resources: [configmaps]") ||
		strings.Count(out, "resources: [secrets]") != 2 || strings.Count(out, "namespace: barn\n") != 2 || strings.Count(out, "namespace: field\n") != 2 || strings.Contains(out, "NAMESPACE:") {
		t.Errorf("rbac --secrets-in: %d\n%s", code, out)
	}
	if out, _, code := door("rbac", "--secrets-in", "none"); code != ExitOK || strings.Contains(out, "secrets, ") || strings.Contains(out, "[secrets]") {
		t.Errorf("rbac --secrets-in none: %d\n%s", code, out)
	}
	if _, complaints, code := door("rbac", "--secrets-in", "barn, field"); code != ExitConfig || !strings.Contains(complaints, "wanted names of namespaces") {
		t.Errorf("a name that is none: %d, %q", code, complaints)
	}
}
