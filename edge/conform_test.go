package edge

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/runtime/process"
	"github.com/skerry-edge/skerry/edge/workload"
	"github.com/skerry-edge/skerry/edge/workload/conformance"
)

// kinds is a node's own runtimes, in a place of their own.
type kinds struct {
	*runtimes
	t     *testing.T
	maker *runtimeMaker
}

// runtimesFor makes the runtimes of these names as skerry-edge does, over images of a shelf.
func runtimesFor(t *testing.T, s *shelf, change func(cfg *configs.Workloads), names ...string) *kinds {
	t.Helper()
	if err := process.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cfg := configs.Workloads{Enabled: true, Dir: t.TempDir(), Runtimes: names}
	if change != nil {
		change(&cfg)
	}
	k := &kinds{t: t, maker: &runtimeMaker{cfg: cfg, cgroup: "." + cgroupOf(cfg.Dir), shim: []string{programFile(t, "skerry-edge"), ShimCommand},
		site: s.site(), log: slog.New(slog.NewTextHandler(t.Output(), nil))}}
	k.runtimes = k.again()
	t.Cleanup(k.clean)
	if len(k.list) != len(names) {
		t.Fatalf("%d runtimes; wanted %q", len(k.list), names)
	}
	return k
}

// again is the runtimes as an agent finds them that was started anew.
func (k *kinds) again() *runtimes {
	k.t.Helper()
	r, err := k.maker.make(context.WithoutCancel(k.t.Context()))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			k.t.Error(err)
		}
	})
	return r
}

// clean ends and removes what a test has left.
func (k *kinds) clean() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.t.Context()), time.Minute)
	defer cancel()
	for _, rt := range k.list {
		list, err := rt.List(ctx)
		for _, o := range list {
			err = errors.Join(err, rt.Stop(ctx, o.ID, 0), rt.Remove(ctx, o.ID))
		}
		if err != nil {
			k.t.Error(err)
		}
	}
}

// subject is a runtime of that name for the conformance suite.
func subject(t *testing.T, image, name string, change func(cfg *configs.Workloads)) conformance.Subject {
	s := stocked(t)
	k := runtimesFor(t, s, change, name)
	return conformance.Subject{Runtime: k.list[0], Image: image, Absent: noWords, Ask: []string{"/words", "cat", "exit", "0"},
		Say: []string{"/words", "echo", "said", "exit", "0"}, Fail: []string{"/words", "exit", "3"},
		Again: func() workload.Runtime { return k.again().list[0] },
		Other: func() workload.Runtime { return runtimesFor(t, s, change, name).list[0] }}
}

func TestTheProcessRuntimeConforms(t *testing.T) {
	conformance.Test(t, func(t *testing.T) conformance.Subject { return subject(t, words, "process", nil) })
}

func TestTheWasmRuntimeConforms(t *testing.T) {
	conformance.Test(t, func(t *testing.T) conformance.Subject { return subject(t, wordsWasm, "wasm", nil) })
}
