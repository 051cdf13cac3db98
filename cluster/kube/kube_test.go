package kube

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// buffer is a log that a test reads while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func begin(t *testing.T, kubeconfig string) (*Bridge, *buffer, func() error) {
	t.Helper()
	out := &buffer{}
	b := New(Config{Cluster: "c1", Kubeconfig: kubeconfig, Namespace: "mlsysops", Layer: "far_edge", Refresh: time.Minute, Grace: time.Second,
		InstallCRD: true, Log: slog.New(slog.NewTextHandler(out, nil)), Now: time.Now})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return b, out, func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			t.Fatal("the bridge does not stop")
			return nil
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); {
		if !agent.Wait(t.Context(), 10*time.Millisecond) || time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

func writeKubeconfig(t *testing.T, path, url string) {
	t.Helper()
	text := "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: x, cluster: {server: '" + url + "'}}]\n" +
		"users: [{name: x, user: {token: t}}]\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAnAPIServerThatIsAwayIsToldAndTriedAgain begins without a kubeconfig, then has one of a server that answers nothing
// of use.
func TestAnAPIServerThatIsAwayIsToldAndTriedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	b, out, stop := begin(t, path)
	told := func(part string) func() bool {
		return func() bool { return strings.Contains(strings.Join(b.Trouble(), "\n"), part) }
	}
	until(t, "that there is no kubeconfig is told", told("no such file"))
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "not now", http.StatusServiceUnavailable)
	}))
	defer server.Close()
	writeKubeconfig(t, path, server.URL)
	until(t, "a kubeconfig that has come is read", told("look for namespace mlsysops"))
	until(t, "it is tried again", func() bool { return asked.Load() > 2 })
	if s := b.Status(); s.State != "down" || s.Since == 0 || s.Reason == "" {
		t.Errorf("%+v; wanted down, since when, and why", s)
	}
	if err := stop(); err != nil {
		t.Errorf("run: %v; wanted nil, whatever Kubernetes does", err)
	}
	if n := strings.Count(out.String(), "out of reach"); n != 1 || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("it is logged %d times that it is away; wanted once, and nothing else:\n%s", n, out)
	}
}

func TestAReplicaThatStandsByTellsHowItsDevicesAreReached(t *testing.T) {
	for replica, want := range map[string]bool{"a": true, "": false} { // without replicas, who stands by has no device
		b := New(Config{Replica: replica, Now: time.Now})
		b.stage, b.reach = "standing by", &reach{via: "direct"}
		if got := b.Status().Kubelet; (got != nil) != want {
			t.Errorf("replica %q: %+v", replica, got)
		}
	}
}
