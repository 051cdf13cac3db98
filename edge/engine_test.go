package edge

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/workload"
)

// life is one life of an engine over real runtimes.
type life struct {
	t      *testing.T
	engine *workload.Engine
	stop   func()
}

func (k *kinds) live(dir string, list ...api.Workload) *life {
	k.t.Helper()
	own := k.again()
	db, err := bbolt.Open(filepath.Join(dir, "state.db"), 0o600, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	e, err := workload.New(workload.Config{Usage: bundle.DiskUsage, Runtimes: own.list, Needed: own.needed, Dir: filepath.Join(dir, "disk"), MemoryDir: filepath.Join(dir, "memory"), LogBytes: 1 << 20,
		Boot: "b", DB: db, Now: time.Now, Log: slog.New(slog.NewTextHandler(k.t.Output(), nil)), OnChange: func() {},
		Unseal: func(*api.Workload) (*api.Secrets, error) { return nil, errors.New("nothing is sealed") }})
	if err != nil {
		k.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(k.t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	e.Want(list)
	return &life{k.t, e, func() {
		cancel()
		if err := errors.Join(<-done, db.Close()); err != nil {
			k.t.Error(err)
		}
	}}
}

// until waits for the status of the only workload to be as it should.
func (l *life) until(what string, ok func(s api.WorkloadStatus) bool) api.WorkloadStatus {
	l.t.Helper()
	var last []api.WorkloadStatus
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if last = l.engine.Status(); len(last) == 1 && ok(last[0]) {
			return last[0]
		}
	}
	l.t.Fatalf("never %s: %+v", what, last)
	return api.WorkloadStatus{}
}

// measured waits for the usage of the only container: the kernel sums up what a group holds every now and then.
func (l *life) measured() {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
		list, failed := l.engine.Stats(l.t.Context())
		if failed == 0 && len(list) == 1 && list[0].Memory > 0 {
			return
		}
		if failed > 0 || len(list) != 1 || time.Now().After(deadline) {
			l.t.Errorf("stats %+v, %d failed", list, failed)
			return
		}
	}
}

// TestTheEngineRunsWorkloadsOnRealRuntimes has a program and a module, which names no runtime, run, end, begin again after their
// backoff, and stay the same processes for the next life of the agent.
func TestTheEngineRunsWorkloadsOnRealRuntimes(t *testing.T) {
	for image, runtime := range map[string]string{words: "process", wordsModule: "wasm"} {
		t.Run(runtime, func(t *testing.T) {
			k := runtimesFor(t, stocked(t), nil, "process", "wasm")
			dir := t.TempDir()
			w := api.Workload{Name: "w", Containers: []api.Container{{Name: "main", Image: image, Args: []string{"echo", "hello", "wait"}}}}
			first := k.live(dir, w)
			s := first.until("running", func(s api.WorkloadStatus) bool { return s.State == api.WorkloadRunning })
			if s.Runtime != runtime {
				t.Errorf("runtime %s; wanted %s", s.Runtime, runtime)
			}
			first.measured()
			pid := k.pid("w_main_1")
			first.stop()
			second := k.live(dir, w)
			second.until("running again", func(s api.WorkloadStatus) bool { return s.State == api.WorkloadRunning })
			if now := k.pid("w_main_1"); now != pid || pid == 0 {
				t.Errorf("pid %d for the next agent; wanted %d", now, pid)
			}
			second.stop()
			w.Containers[0].Args = []string{"echo", "bye", "exit", "3"}
			third := k.live(dir, w)
			// Once for what it is to do now, and once after its end.
			s = third.until("begun anew", func(s api.WorkloadStatus) bool { return len(s.Containers) == 1 && s.Containers[0].Restarts > 1 })
			if c := s.Containers[0]; c.Last == nil || c.Last.Exit != 3 {
				t.Errorf("after an end with 3: %+v", c)
			}
			logged(t, filepath.Join(dir, "disk", "w", "logs", "main"), "stdout F bye")
			third.engine.Want(nil)
			for deadline := time.Now().Add(time.Minute); k.pid("") != 0 && time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
			}
			third.stop()
		})
	}
}

// pid is that of a container that runs, or of any.
func (k *kinds) pid(id string) int {
	k.t.Helper()
	for _, rt := range k.list {
		list, err := rt.List(k.t.Context())
		if err != nil {
			k.t.Fatal(err)
		}
		for _, o := range list {
			if o.Running && (id == "" || o.ID == id) {
				return o.Pid
			}
		}
	}
	return 0
}

func logged(t *testing.T, dir, want string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no log in %s: %v", dir, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if strings.HasSuffix(strings.TrimSuffix(line, "\n"), want) {
				return
			}
		}
	}
	t.Errorf("%v do not have %q", files, want)
}
