package workload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/workload"
	"github.com/skerry-edge/skerry/edge/workload/conformance"
)

const image = "docker.io/library/busybox:1.36"

// rig is a node whose agent may come and go.
type rig struct {
	t       *testing.T
	dir     string
	fake    *conformance.Fake
	db      *bbolt.DB
	boot    string
	more    []workload.Runtime
	change  func(cfg *workload.Config)
	log     bytes.Buffer
	changes atomic.Int64

	engine *workload.Engine
	stop   func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), fake: conformance.NewFake("process", image), boot: "b1", stop: func() {}}
	db, err := bbolt.Open(filepath.Join(r.dir, "state.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	r.db = db
	return r
}

// close ends what the rig has: within its bubble.
func (r *rig) close() {
	r.stop()
	if err := r.db.Close(); err != nil {
		r.t.Error(err)
	}
	if r.t.Failed() {
		r.t.Logf("log:\n%s", r.log.String())
	}
}

// start begins a life of the agent.
func (r *rig) start() {
	r.t.Helper()
	cfg := workload.Config{Runtimes: append([]workload.Runtime{r.fake}, r.more...), Dir: filepath.Join(r.dir, "disk"), MemoryDir: filepath.Join(r.dir, "memory"),
		LogBytes: 1 << 20, Boot: r.boot, DB: r.db, Now: time.Now, Log: slog.New(slog.NewTextHandler(&r.log, nil)), OnChange: func() { r.changes.Add(1) },
		Usage: func(_ context.Context, dir string) (uint64, error) {
			info, err := os.Stat(filepath.Join(dir, "grown"))
			if err != nil {
				return 0, nil // nothing has been written
			}
			return uint64(info.Size()), nil
		},
		Unseal: func(*api.Workload) (*api.Secrets, error) { return nil, errors.New("nothing is sealed here") }}
	if r.change != nil {
		r.change(&cfg)
	}
	engine, err := workload.New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	r.engine = engine
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		r.stop = func() {}
	}
}

// want says what is wanted, and lets everything settle that needs no time.
// forget has the agent lose what it remembers of workloads, between two lives; meanwhile what else happens.
func (r *rig) forget(meanwhile func()) {
	r.t.Helper()
	r.stop()
	if err := r.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("workloads")) }); err != nil {
		r.t.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile()
	}
	r.start()
}

// leaveLog writes what a run that printed something has left.
func (r *rig) leaveLog(workload, container string, run int) {
	r.t.Helper()
	path := filepath.Join(r.dir, "disk", workload, "logs", container, fmt.Sprintf("%d.log", run))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, nil, 0o640)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) want(list ...api.Workload) {
	r.engine.Want(list)
	synctest.Wait()
}

// after lets time pass.
func (r *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// status is that of one workload.
func (r *rig) status(name string) api.WorkloadStatus {
	r.t.Helper()
	for _, s := range r.engine.Status() {
		if s.Name == name {
			return s
		}
	}
	r.t.Fatalf("no status of workload %s among %v", name, r.engine.Status())
	return api.WorkloadStatus{}
}

// first is the status of the first container of a workload.
func (r *rig) first(name string) api.ContainerStatus {
	r.t.Helper()
	s := r.status(name)
	if len(s.Containers) == 0 {
		r.t.Fatalf("workload %s has no container: %+v", name, s)
	}
	return s.Containers[0]
}

// bubble runs a test with a rig in time of its own.
func bubble(t *testing.T, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		r.start()
		synctest.Wait()
		f(r)
	})
}

// pod makes a workload of containers that run words.
func pod(name string, words ...string) api.Workload {
	w := api.Workload{Name: name, GraceSeconds: 30}
	for i, word := range words {
		w.Containers = append(w.Containers, api.Container{Name: fmt.Sprintf("c%d", i), Image: image, Args: []string{word}})
	}
	return w
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v; wanted %v", what, got, want)
	}
}

func equalLists(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s are %q; wanted %q", what, got, want)
	}
}
