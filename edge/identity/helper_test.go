package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// noon is when the tests take place.
func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

// watch is a clock that stands where a test puts it.
type watch struct {
	mu sync.Mutex
	at time.Time
}

func (w *watch) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *watch) set(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = at
}

// believed is a clock that the kernel vouches for.
func (w *watch) believed() *agent.Clock {
	return agent.NewClock(time.Time{}, agent.ClockSource{System: w.now, Synced: func() bool { return true }})
}

// node is a device with its directory and its clock.
type node struct {
	t     *testing.T
	dir   string
	watch *watch
	join  func() (*api.Join, error)
	log   bytes.Buffer
	cfg   KeeperConfig
}

func newNode(t *testing.T, join func() (*api.Join, error)) *node {
	n := &node{t: t, dir: filepath.Join(t.TempDir(), "state"), watch: &watch{at: noon()}, join: join}
	n.cfg = KeeperConfig{Dir: n.dir, Node: "pump-3", Join: join, Client: &Client{Clock: n.watch.believed()},
		Log: slog.New(slog.NewTextHandler(&n.log, nil))}
	return n
}

// joining is a node of a service.
func joining(t *testing.T, s *enrolment.Service) *node {
	return newNode(t, func() (*api.Join, error) { return new(s.Join()), nil })
}

// run runs a keeper until meanwhile, called when the keeper has a certificate, returns.
func (n *node) run(meanwhile func(k *Keeper)) {
	n.t.Helper()
	k, err := NewKeeper(n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	k.retry = agent.Backoff{Min: time.Millisecond, Max: 10 * time.Millisecond}
	k.rarely = k.retry
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	select {
	case <-k.Ready():
		meanwhile(k)
	case err := <-done:
		n.t.Fatalf("keeper ended early: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		n.t.Fatalf("keeper: %v", err)
	}
}

// enrolled enrols the node and returns its identity.
func (n *node) enrolled() (id *Identity) {
	n.t.Helper()
	n.run(func(k *Keeper) { id = k.Current() })
	return id
}

// eventually waits until ok is.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-end:
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

func path(dir string) string { return filepath.Join(dir, fileName) }

func mode(t *testing.T, name string) os.FileMode {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func refusal(status int, code, cure string) *api.Problem {
	return &api.Problem{Status: status, Code: code, Title: code, Detail: "detail of " + code, Cure: cure}
}

func isProblem(err error, code string) bool {
	p, ok := errors.AsType[*api.Problem](err)
	return ok && p.Code == code
}
