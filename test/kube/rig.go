package kube

import (
	"os"
	"path/filepath"
	"testing"
)

// Start starts a control plane for one test and ends it with the test. When the test fails, the ends of all logs are shown
// and the directory is kept.
func Start(t testing.TB, o Options) *ControlPlane {
	t.Helper()
	need(t)
	dir, err := os.MkdirTemp("", "kube") // short: it holds a unix socket
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(t.Context(), dir, o)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(p.Logs(15))
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Logs returns the last lines of each program's log, and where they are.
func (p *ControlPlane) Logs(lines int) string {
	out := "logs are in " + p.Dir
	for _, c := range []*process{p.kine, p.api, p.manager, p.scheduler} {
		if c != nil {
			out += "\n--- " + filepath.Base(c.log) + "\n" + c.tail(lines)
		}
	}
	return out
}

// need skips a test when the programs were not built; under CI=true it fails.
func need(t testing.TB) {
	t.Helper()
	if _, err := Part("kube-apiserver"); err == nil {
		return
	} else if os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else {
		t.Skip(err)
	}
}
