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
}
