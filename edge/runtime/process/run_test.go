package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/workload"
)

func TestAContainerRunsAndItsExitIsKept(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "exit", "7")
	o, _ := r.run(c)
	if o.Exit != 7 || o.Signal != 0 || o.Unknown || o.Workload != "w" || o.Image != "sha256:test" || o.Finished.Before(o.Started) {
		t.Fatalf("got %+v; wanted exit 7", o)
	}
}

func TestOutputIsInTheFormatOfCRI(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "both")
	if _, text := r.run(c); !strings.Contains(text, "to stdout\n") || !strings.Contains(text, "to stderr\n") {
		t.Fatalf("log holds %q", text)
	}
}

func TestStopGivesGraceThenKills(t *testing.T) {
	r := newRig(t)
	kind, stubborn := r.container("kind", "serve"), r.container("stubborn", "stubborn")
	r.start(kind)
	r.start(stubborn)
	r.says(kind, "serving")
	r.says(stubborn, "serving")
	if err := r.Stop(t.Context(), kind.ID, time.Minute); err != nil {
		t.Fatal(err)
	}
	if o, _ := r.observe(kind.ID); o.Running || o.Exit != 3 {
		t.Fatalf("kind: %+v; wanted exit 3", o)
	}
	begin := time.Now()
	if err := r.Stop(t.Context(), stubborn.ID, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("killed after %v; wanted its grace", took)
	}
	if o, _ := r.observe(stubborn.ID); o.Running || o.Signal != 9 || o.Exit != 137 {
		t.Fatalf("stubborn: %+v; wanted signal 9", o)
	}
}

func TestStopKillsAtOnceWithoutGrace(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "serve")
	r.start(c)
	if err := r.Stop(t.Context(), c.ID, 0); err != nil {
		t.Fatal(err)
	}
	if o, _ := r.observe(c.ID); o.Running || o.Signal != 9 {
		t.Fatalf("got %+v; wanted signal 9", o)
	}
	if err := r.Stop(t.Context(), c.ID, 0); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if err := r.Stop(t.Context(), "w_none_0", 0); err != nil {
		t.Errorf("stop of none: %v", err)
	}
}

func TestAStopWhoseTimeEndsLeavesTheContainer(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "stubborn")
	r.start(c)
	r.says(c, "serving")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := r.Stop(ctx, c.ID, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v; wanted the end of its time", err)
	}
	if o, _ := r.observe(c.ID); !o.Running {
		t.Errorf("got %+v; wanted it running", o)
	}
}

func TestTheSameContainerIsStartedOnce(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "serve")
	r.start(c)
	first, _ := r.observe(c.ID)
	r.start(c)
	if again, _ := r.observe(c.ID); again.Pid != first.Pid || again.Pid == 0 {
		t.Errorf("pid %d, then %d; wanted the same", first.Pid, again.Pid)
	}
	if err := r.Stop(t.Context(), c.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), c); err == nil {
		t.Error("an ID that has run was started again")
	}
	if err := r.Remove(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if o, there := r.observe(c.ID); there {
		t.Errorf("removed, but listed: %+v", o)
	}
	if _, err := os.Stat(c.Log); err != nil {
		t.Errorf("the log is gone: %v", err)
	}
}

func TestWhatRunsIsNotRemoved(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "serve")
	r.start(c)
	if err := r.Remove(t.Context(), c.ID); err == nil {
		t.Error("a running container was removed")
	}
}

func TestAProgramThatCannotBeStartedIsAnErrorAndLeavesNothing(t *testing.T) {
	r := newRig(t)
	for name, change := range map[string]func(*workload.Container){
		"none":    func(c *workload.Container) { c.Command = []string{"/no/such"} },
		"path":    func(c *workload.Container) { c.Command = []string{"nosuch"} },
		"image":   func(c *workload.Container) { c.Image = "sha256:other" },
		"user":    func(c *workload.Container) { c.Security.User = new(int64(-1)) },
		"nonroot": func(c *workload.Container) { c.Security.NonRoot = true },
		"cap":     func(c *workload.Container) { c.Security.Add = []string{"FLY"} },
		"source":  func(c *workload.Container) { c.Mounts = []workload.Mount{{Source: "/no/such", Target: "/x"}} },
	} {
		c := r.container(name, "say", "hello")
		change(&c)
		err := r.Start(t.Context(), c)
		if err == nil {
			t.Errorf("%s: started", name)
			continue
		}
		t.Log(err)
		if _, there := r.observe(c.ID); there {
			t.Errorf("%s: listed although it was not started", name)
		}
		if dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + testCgroup() + "/" + c.ID); len(dirs) > 0 {
			t.Errorf("%s: left %v", name, dirs)
		}
	}
}

func TestOrphansEndWithTheProgram(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "fork")
	o, text := r.run(c)
	if o.Exit != 0 || !strings.Contains(text, "left three") {
		t.Fatalf("got %+v, %q", o, text)
	}
	group, err := cgroup.Open(r.begun(c.ID).Cgroups)
	if err != nil {
		t.Fatal(err)
	}
	if pids := group.Pids(); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
	if err := group.Close(); err != nil {
		t.Error(err)
	}
}

func TestMemoryBeyondTheLimitEndsTheContainer(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "hog")
	c.Limits.MemoryBytes = 32 << 20
	o, text := r.run(c)
	if !o.OOM || o.Exit != 137 || o.Signal != 9 {
		t.Fatalf("got %+v, %q; wanted OOM and signal 9", o, text)
	}
}

func TestARequestOfCPUIsTheWeightOfTheContainer(t *testing.T) {
	r := newRig(t)
	for id, millis := range map[string]int64{"a": 500, "b": 0} {
		c := r.container(id, "burn", "1h")
		c.Requests.CPUMillis = millis
		r.start(c)
		held := 0
		for _, dir := range r.begun(c.ID).Cgroups {
			for name, want := range map[string]string{"cpu.shares": map[string]string{"a": "512", "b": "2"}[id], "cpu.weight": map[string]string{"a": "20", "b": "1"}[id]} {
				raw, err := os.ReadFile(filepath.Join(dir, name))
				if errors.Is(err, os.ErrNotExist) {
					continue
				}
				held++
				if got := strings.TrimSpace(string(raw)); err != nil || got != want {
					t.Errorf("%dm: %s is %s, %v; wanted %s", millis, name, got, err, want)
				}
			}
		}
		if without := strings.Join(r.begun(c.ID).Without, "; "); held == 0 && !strings.Contains(without, "cpu weight") {
			t.Errorf("%dm: nothing holds it, and nothing says so: %s", millis, without)
		}
	}
}

func TestTheCPULimitHolds(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "burn", "1h")
	c.Limits.CPUMillis = 100
	r.start(c)
	stats := func() workload.Stats {
		s, err := r.Stats(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	began := time.Now()
	first, last := stats(), workload.Stats{}
	<-time.After(2 * time.Second)
	r.until("the limit to be felt", func() bool {
		last = stats()
		return last.CPU > first.CPU && last.ThrottledTime > 0
	})
	// All of it was used since then, however long it took to look.
	if share := float64(last.CPU-first.CPU) / float64(time.Since(began)); share > 0.15 {
		t.Errorf("used %.3f of a core; wanted 0.1 of it; %+v", share, last)
	}
	r.until("memory counts: the kernel sums them up every now and then", func() bool {
		last = stats()
		return last.MemoryBytes > 0 && last.RSSBytes > 0 && last.Processes > 0
	})
}

func TestTheNumberOfProcessesIsBounded(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "forks")
	if _, text := r.run(c); !strings.Contains(text, "refused after") {
		t.Errorf("got %q; wanted a refusal", text)
	}
}

func TestItsOwnLayerIsWrittenNotTheImage(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "write", "/new", strings.Repeat("y", 100<<10))
	if o, text := r.run(c); o.Exit != 0 {
		t.Fatalf("got %+v, %q", o, text)
	}
	if _, err := os.Stat(filepath.Join(r.images.lower[0], "new")); !os.IsNotExist(err) {
		t.Errorf("the image was changed: %v", err)
	}
	n, err := bundle.DiskUsage(t.Context(), filepath.Join(r.cfg.Dir, c.ID, bundle.UpperDir))
	if err != nil || n < 100<<10 {
		t.Errorf("its layer has %d bytes, %v; wanted 100 KiB", n, err)
	}
}
