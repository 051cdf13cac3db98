package conformance

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/workload"
)

// Subject is a runtime under test. Its image has to be one whose program obeys a few words of its arguments, one after the
// other: echo WORD and complain WORD write a line to stdout or stderr, exit N ends, stubborn ignores SIGTERM, grow takes memory
// for ever, at most 16 MiB; after the last word it waits until it is stopped. With a runtime that gives no signals stubborn does
// nothing. Ask and Say are commands that can be run inside: Ask copies its input to its output, Say writes "said" and a newline.
type Subject struct {
	Runtime workload.Runtime
	Image   string // a reference that can be pulled
	Absent  string // one that nobody has
	Ask     []string
	Say     []string
	Fail    []string // a command that ends with exit code 3
	// Again is the same runtime as an agent finds it that was started anew; nil: Runtime itself.
	Again func() workload.Runtime
	// Other is the runtime of another agent on this machine, which has the same image.
	Other func() workload.Runtime
}

// within bounds every wait of the suite.
const within = time.Minute

// bench is a subject and a place for its logs.
type bench struct {
	Subject
	t      *testing.T
	dir    string
	digest string
}

// Test has every claim of the seam proved by what subject returns, anew for each.
func Test(t *testing.T, subject func(t *testing.T) Subject) {
	for _, claim := range []struct {
		name  string
		prove func(b *bench)
	}{
		{"pulls tell what they made present", pulls},
		{"a container runs until it ends", runsAndEnds},
		{"a container that runs is not started again", startsOnce},
		{"a stop ends what obeys", stops},
		{"a stop leaves its grace and then kills", stopsAfterGrace},
		{"a stop that is given up leaves the container", givesUp},
		{"what ended stays listed until it is removed", removes},
		{"the log has the format of CRI", logs},
		{"containers outlive the agent", outlives},
		{"a change is signalled", signals},
		{"a command runs inside", execs},
		{"who takes slowly gets it all", takesSlowly},
		{"nothing is reached in what does not run", notRunning},
		{"unused images go and used ones stay", collects},
		{"what a container uses only grows", uses},
		{"agents on one machine keep apart", apart},
	} {
		t.Run(strings.ReplaceAll(claim.name, " ", "-"), func(t *testing.T) {
			b := &bench{Subject: subject(t), t: t, dir: t.TempDir()}
			claim.prove(b)
		})
	}
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.t.Context(), within)
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bench) ok(what string, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// start begins a container that obeys words, and has it stopped at the end.
func (b *bench) start(id string, words ...string) workload.Container {
	b.t.Helper()
	if b.digest == "" {
		digest, err := b.Runtime.Pull(b.ctx(), b.Image, api.PullMissing, nil)
		b.ok("pull", err)
		b.digest = digest
	}
	name, container, _, ok := workload.ParseContainerID(id)
	if !ok {
		b.t.Fatalf("id %s: wanted one of a container", id)
	}
	c := workload.Container{ID: id, Workload: name, Name: container, Image: b.digest, Args: words, Log: filepath.Join(b.dir, id+".log"), LogBytes: 1 << 20,
		Env: []string{"SKERRY_TEST=1"}}
	b.ok("start", b.Runtime.Start(b.ctx(), c))
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), within)
		defer cancel()
		if err := errors.Join(b.Runtime.Stop(ctx, id, 0), b.Runtime.Remove(ctx, id)); err != nil {
			b.t.Errorf("clean up %s: %v", id, err)
		}
	})
	return c
}

// find is how a container stands; ok is false when it is not listed.
func (b *bench) find(rt workload.Runtime, id string) (workload.Observed, bool) {
	b.t.Helper()
	list, err := rt.List(b.ctx())
	b.ok("list", err)
	i := slices.IndexFunc(list, func(o workload.Observed) bool { return o.ID == id })
	if i < 0 {
		return workload.Observed{}, false
	}
	return list[i], true
}

// until waits for a container to be as it should.
func (b *bench) until(id, what string, ok func(o workload.Observed) bool) workload.Observed {
	b.t.Helper()
	for ctx := b.ctx(); ; {
		o, there := b.find(b.Runtime, id)
		if there && ok(o) {
			return o
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			b.t.Fatalf("%s: never %s; last %+v, listed: %t", id, what, o, there)
		}
	}
}

func ended(o workload.Observed) bool   { return !o.Running }
func running(o workload.Observed) bool { return o.Running }

func pulls(b *bench) {
	first, err := b.Runtime.Pull(b.ctx(), b.Image, api.PullMissing, nil)
	if err != nil || !strings.HasPrefix(first, "sha256:") || len(first) != len("sha256:")+64 {
		b.t.Fatalf("pull: %q, %v; wanted a digest", first, err)
	}
	for _, policy := range []api.PullPolicy{api.PullNever, api.PullMissing, api.PullAlways} {
		if again, err := b.Runtime.Pull(b.ctx(), b.Image, policy, func(done, total int64) {}); again != first || err != nil {
			b.t.Errorf("pull again with %s: %q, %v; wanted %s", policy, again, err, first)
		}
	}
	for _, policy := range []api.PullPolicy{api.PullNever, api.PullMissing} {
		if digest, err := b.Runtime.Pull(b.ctx(), b.Absent, policy, nil); !errors.Is(err, workload.ErrNoImage) {
			b.t.Errorf("pull of an image that nobody has, with %s: %q, %v; wanted ErrNoImage", policy, digest, err)
		}
	}
}

func runsAndEnds(b *bench) {
	before := time.Now().Add(-2 * time.Second)
	b.start("a_main_1", "wait")
	o := b.until("a_main_1", "running", running)
	if o.Workload != "a" || o.Image != b.digest || o.Started.Before(before) || o.Started.After(time.Now().Add(2*time.Second)) {
		b.t.Errorf("running: %+v", o)
	}
	for words, exit := range map[string]int{"exit 0": 0, "exit 3": 3} {
		id := "b_" + strings.ReplaceAll(words, " ", "-") + "_1"
		b.start(id, strings.Fields(words)...)
		o := b.until(id, "ended", ended)
		if o.Exit != exit || o.Finished.Before(o.Started) || o.OOM || o.Unknown {
			b.t.Errorf("%s: %+v", words, o)
		}
	}
}

func startsOnce(b *bench) {
	c := b.start("a_main_1", "echo", "once", "wait")
	first := b.until("a_main_1", "running", running)
	b.ok("start again", b.Runtime.Start(b.ctx(), c))
	if again := b.until("a_main_1", "running", running); again.Pid != first.Pid || !again.Started.Equal(first.Started) {
		b.t.Errorf("started again: %+v, before %+v", again, first)
	}
	b.lines(c.Log, 1)
	list, err := b.Runtime.List(b.ctx())
	if err != nil || len(list) != 1 {
		b.t.Errorf("%d containers, %v; wanted 1", len(list), err)
	}
}

// lines waits for n lines of a log.
func (b *bench) lines(path string, n int) []string {
	b.t.Helper()
	for ctx := b.ctx(); ; {
		raw, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			b.t.Fatal(err)
		}
		got := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
		if len(raw) > 0 && len(got) >= n {
			return got
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			b.t.Fatalf("log %s: %q; wanted %d lines", path, raw, n)
		}
	}
}

func stops(b *bench) {
	c := b.start("a_main_1", "echo", "up", "wait")
	b.lines(c.Log, 1) // it takes signals from then on, and obeys: its grace is longer than anybody waits
	b.ok("stop of a program that obeys", b.Runtime.Stop(b.ctx(), "a_main_1", 10*within))
	if o := b.until("a_main_1", "ended", ended); o.Unknown || o.OOM {
		b.t.Errorf("stopped: %+v", o)
	}
	b.ok("stop of what has ended", b.Runtime.Stop(b.ctx(), "a_main_1", time.Second))
	b.start("d_main_1", "echo", "up", "wait")
	b.ok("stop without grace", b.Runtime.Stop(b.ctx(), "d_main_1", 0))
	if o := b.until("d_main_1", "ended", ended); o.Exit != 137 {
		b.t.Errorf("killed at once: %+v", o)
	}
	b.ok("stop of what never was", b.Runtime.Stop(b.ctx(), "c_main_1", time.Second))
}

// stopsAfterGrace is for programs that take signals. One that cannot has nothing that a grace could be for.
func stopsAfterGrace(b *bench) {
	c := b.start("b_main_1", "stubborn", "echo", "up", "wait")
	b.lines(c.Log, 1) // it ignores the signal from then on
	grace := time.Second
	if !b.Runtime.Can().Signals {
		grace = 10 * within // a stop that left it would not end in time
	}
	began := time.Now()
	b.ok("stop", b.Runtime.Stop(b.ctx(), "b_main_1", grace))
	took := time.Since(began)
	o := b.until("b_main_1", "ended", ended)
	switch {
	case !b.Runtime.Can().Signals:
		if o.Exit == 0 {
			b.t.Errorf("a program without signals was stopped: %+v; wanted it ended, and not as if by itself", o)
		}
	case took < 900*time.Millisecond:
		b.t.Errorf("a program that ignores SIGTERM was stopped after %s; wanted its grace of 1 s", took)
	case o.Signal != 9 && o.Exit != 137:
		b.t.Errorf("killed: %+v", o)
	}
}

func givesUp(b *bench) {
	if !b.Runtime.Can().Signals { // it would end before anybody can give up
		b.start("a_main_1", "echo", "up", "wait")
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		if err := b.Runtime.Stop(ctx, "a_main_1", time.Minute); !errors.Is(err, context.Canceled) {
			b.t.Errorf("stop that was given up: %v; wanted the error of its context", err)
		}
		if o, _ := b.find(b.Runtime, "a_main_1"); !o.Running {
			b.t.Errorf("after a stop that was given up: %+v; wanted it to run", o)
		}
		return
	}
	c := b.start("a_main_1", "stubborn", "echo", "up", "wait")
	b.lines(c.Log, 1)
	ctx, cancel := context.WithTimeout(b.t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := b.Runtime.Stop(ctx, "a_main_1", time.Minute); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		b.t.Errorf("stop that was given up: %v; wanted the error of its context", err)
	}
	if o, _ := b.find(b.Runtime, "a_main_1"); !o.Running {
		b.t.Errorf("after a stop that was given up: %+v; wanted it to run", o)
	}
}

func removes(b *bench) {
	c := b.start("a_main_1", "echo", "bye", "exit", "0")
	b.until("a_main_1", "ended", ended)
	b.lines(c.Log, 1)
	b.ok("remove", b.Runtime.Remove(b.ctx(), "a_main_1"))
	if o, there := b.find(b.Runtime, "a_main_1"); there {
		b.t.Errorf("after its removal: %+v", o)
	}
	b.lines(c.Log, 1) // stays
	b.ok("remove again", b.Runtime.Remove(b.ctx(), "a_main_1"))
}
