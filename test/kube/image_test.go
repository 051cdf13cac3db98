package kube

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/skerry-edge/skerry/test/system"
)

// importApp brings AppImage to a site with the shipped CLI, as for one without a registry.
func (s *site) importApp() {
	s.t.Helper()
	s.bring(&app)
}

func (s *site) bring(a *archive) {
	s.t.Helper()
	raw, err := a.get()
	if err != nil {
		s.t.Fatal(err)
	}
	program, err := system.Program("skerry")
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), program, "image", "import", "-")
	cmd.Env = append(os.Environ(), "SKERRY_CONFIG="+filepath.Join(s.dir, "cluster", "admin.yaml"))
	cmd.Stdin = bytes.NewReader(raw)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("import %s: %v: %s", a.name, err, out)
	}
}
