package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// shared is the one control plane of the tests that leave it running; it is a k3s server's.
var shared struct {
	once  sync.Once
	plane *ControlPlane
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.plane != nil {
		if code != 0 {
			fmt.Fprintln(os.Stderr, shared.plane.Logs(15))
		}
		if err := errors.Join(shared.plane.Close(), os.RemoveAll(shared.plane.Dir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func cluster(t *testing.T) *ControlPlane {
	t.Helper()
	need(t)
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "kube")
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		shared.plane, shared.err = New(context.Background(), dir, Options{K3s: true})
		t.Logf("the control plane took %s to be ready", time.Since(begun).Round(100*time.Millisecond))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.plane
}

// kubectl runs it as the administrator and fails the test when it fails.
func kubectl(t testing.TB, p *ControlPlane, args ...string) string {
	t.Helper()
	return apply(t, p, "", args...)
}

// apply is kubectl with an input.
func apply(t testing.TB, p *ControlPlane, input string, args ...string) string {
	t.Helper()
	out, err := p.Admin.KubectlWith(t.Context(), input, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// object reads what kubectl prints with -o json.
func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return out
}

// eventually polls for at most limit.
func eventually(t testing.TB, limit time.Duration, what string, f func() error) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// namespace makes one for a test.
func namespace(t *testing.T, p *ControlPlane, name string) {
	t.Helper()
	kubectl(t, p, "create", "namespace", name)
	eventually(t, time.Minute, "the namespace has its service account", func() error {
		_, err := p.Admin.Kubectl(t.Context(), "-n", name, "get", "serviceaccount", "default")
		return err
	})
}

// root is the repository's.
func root(parts ...string) string { return filepath.Join(append([]string{"..", ".."}, parts...)...) }

func refusedWith(err error, part string) error {
	if err == nil || !strings.Contains(err.Error(), part) {
		return fmt.Errorf("%w; wanted %q", err, part)
	}
	return nil
}
