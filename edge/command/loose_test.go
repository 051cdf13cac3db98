package command

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// smallDisk is a directory on a small file system of its own, fill has it full until free.
func smallDisk(t *testing.T) (dir string, fill, free func()) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount: %v", err)
		}
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(dir, "filler")
	fill = func() {
		if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
			t.Error("the disk is not full")
		}
	}
	free = func() {
		if err := os.Remove(filler); err != nil {
			t.Error(err)
		}
	}
	return dir, fill, free
}

// large has bbolt grow its file.
var large = strings.Repeat("x", 60<<10)

func TestAnEndIsToldOnceItIsJournalled(t *testing.T) {
	dir, fill, free := smallDisk(t)
	synctest.Test(t, func(t *testing.T) {
		act := func(context.Context, *Job) (Outcome, error) { fill(); return Outcome{Output: large}, nil }
		b := newBench(t, dir, Config{Verbs: []Verb{&spy{name: "act", act: act}}})
		b.run()
		cmd := b.order("c1", "act", nil)
		b.handle(cmd)
		pass(t, 10*time.Second)
		b.handle(cmd)
		b.Resend(t.Context())
		s := b.want("c1", api.PhaseRunning)
		if !strings.Contains(s.Progress, "succeeded") || !strings.Contains(s.Progress, "no space left") {
			t.Errorf("progress %q; wanted what it came to and why that is not told", s.Progress)
		}
		if open := b.Open(); !slices.Equal(open, []string{"c1"}) || b.Counts().Owed != 1 {
			t.Errorf("open %v, %d owed; wanted c1", open, b.Counts().Owed)
		}
		// A life that began now would settle c1 as one that ran and has no end: so none may have been told.
		for _, p := range b.out.phases("c1") {
			if p.Final() {
				t.Errorf("%s was told, and is not in the journal", p)
			}
		}
		free()
		pass(t, mendEvery)
		if s := b.want("c1", api.PhaseSucceeded); s.Output != large[:api.MaxOutputBytes] {
			t.Errorf("%d bytes of output; wanted %d", len(s.Output), api.MaxOutputBytes)
		}
		if e, ok := b.journal.find("c1"); !ok || e.phase != api.PhaseSucceeded {
			t.Errorf("in the journal is %+v", e)
		}
		b.Acked([]string{"c1"})
		if open := b.Open(); len(open) != 0 || b.Counts().Owed != 0 {
			t.Errorf("open %v, %d owed after the ack", open, b.Counts().Owed)
		}
	})
}

func TestARefusalThatIsNotJournalledOutlivesItsAck(t *testing.T) {
	dir, fill, free := smallDisk(t)
	synctest.Test(t, func(t *testing.T) {
		ran := 0
		act := func(context.Context, *Job) (Outcome, error) { ran++; return Outcome{}, nil }
		b := newBench(t, dir, Config{Verbs: []Verb{&spy{name: "act", act: act}}})
		b.run()
		fill()
		cmd := b.order("c1", "act", map[string]any{"x": large})
		b.handle(cmd)
		b.want("c1", api.PhaseRejected)
		b.Acked([]string{"c1"})
		if n := b.Counts().Owed; n != 0 {
			t.Errorf("%d owed after the ack", n)
		}
		free()
		b.handle(cmd) // a broker that has no PUBACK yet delivers it again
		if b.want("c1", api.PhaseRejected); ran != 0 {
			t.Errorf("it ran %d times after it was refused", ran)
		}
		pass(t, 2*time.Minute)
		if e, ok := b.journal.find("c1"); !ok || e.phase != api.PhaseRejected || !e.acked {
			t.Errorf("in the journal is %+v; wanted it rejected and acknowledged", e)
		}
	})
}

func TestRefusalsThatAreNotJournalledAreBounded(t *testing.T) {
	dir, fill, free := smallDisk(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, dir, Config{Verbs: []Verb{&spy{name: "act", act: done}}})
		b.run()
		fill()
		defer free()
		args := map[string]any{"x": large}
		for range maxLoose + 10 {
			id := api.NewID()
			b.handle(b.order(id, "act", args))
			b.want(id, api.PhaseRejected)
			b.Acked([]string{id})
			pass(t, time.Millisecond)
		}
		b.mu.Lock()
		n := len(b.loose)
		b.mu.Unlock()
		if n != maxLoose {
			t.Errorf("%d are kept; wanted the newest %d", n, maxLoose)
		}
	})
}

// TestWhatCouldNotBeginIsNotToldAsRunning: nothing can be journalled any more once it is accepted.
func TestWhatCouldNotBeginIsNotToldAsRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *bench
		ran, prepared := false, 0
		act := func(context.Context, *Job) (Outcome, error) { ran = true; return Outcome{}, nil }
		prepare := func(map[string]any) error {
			if prepared++; prepared == 2 { // before it begins
				return b.db.Close()
			}
			return nil
		}
		b = newBench(t, t.TempDir(), Config{Verbs: []Verb{&spy{name: "act", act: act, prepare: prepare}}})
		b.run()
		b.handle(b.order("c1", "act", nil))
		pass(t, 10*time.Second)
		b.Resend(t.Context())
		if s := b.want("c1", api.PhaseAccepted); ran || !strings.Contains(s.Progress, "rejected") || !strings.Contains(s.Progress, "database not open") {
			t.Errorf("ran %t, progress %q; wanted why it was not begun", ran, s.Progress)
		}
	})
}
