package command

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// end journals a command that is final at once.
func end(t *testing.T, b *bench, id string, output string) error {
	t.Helper()
	cmd := b.order(id, "act", nil)
	st := &api.Status{ID: id, Phase: api.PhaseSucceeded, Epoch: 1, At: cmd.Issued, Output: output}
	_, err := b.journal.keep(0, &record{Command: *cmd, Digest: "d"}, st, b.cfg.Clock.Now())
	return err
}

func TestTheJournalForgetsOnlyWhatIsAcknowledgedAndPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, t.TempDir(), Config{})
		b.db.NoSync = true // thousands of commits; what is tested is the choice
		if _, _, err := b.journal.load(); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for i := range 300 {
			ids = append(ids, fmt.Sprintf("c%d", i))
			if err := end(t, b, ids[i], ""); err != nil {
				t.Fatal(err)
			}
		}
		count := func() int { return len(b.journal.order) }
		b.journal.ack(ids[:299])
		if err := end(t, b, "early", ""); err != nil || count() != 301 {
			t.Fatalf("%d kept, error %v: forgot before the deadline", count(), err)
		}
		pass(t, 2*time.Hour)
		if err := end(t, b, "later", ""); err != nil || count() != remembered {
			t.Fatalf("%d kept, error %v; wanted the newest %d", count(), err, remembered)
		}
		pass(t, rememberFor)
		if err := end(t, b, "week", ""); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"c299", "early", "later", "week"} { // never acknowledged, or new
			if _, ok := b.journal.find(id); !ok {
				t.Errorf("%s was forgotten", id)
			}
		}
		if count() != 4 {
			t.Errorf("%d kept after a week; wanted 4", count())
		}
	})
}

func TestAFullJournalRefusesInsteadOfForgetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, t.TempDir(), Config{Verbs: []Verb{&spy{name: "act", act: done}}})
		b.db.NoSync = true
		if _, _, err := b.journal.load(); err != nil {
			t.Fatal(err)
		}
		for i := range maxJournal {
			if err := end(t, b, fmt.Sprintf("c%d", i), ""); err != nil {
				t.Fatal(err)
			}
		}
		b.run()
		b.handle(b.order("more", "act", nil))
		if s := b.want("more", api.PhaseRejected); !strings.Contains(s.Reason, "journal full") {
			t.Errorf("reason %q", s.Reason)
		}
		if got := b.journal.owed(); len(got) != maxJournal {
			t.Errorf("%d owed; wanted all %d", len(got), maxJournal)
		}
		b.Resend(t.Context())
		synctest.Wait()
		if got := b.out.phases("more"); len(got) != 2 {
			t.Errorf("sent %v; wanted the rejection again", got)
		}
		b.Acked([]string{"more"})
		if n := b.Counts().Owed; n != maxJournal {
			t.Errorf("%d owed; the acknowledged rejection is still kept", n)
		}
	})
}

func TestLargeOutputsAreLeftOutBeforeTheDiskIsFilled(t *testing.T) {
	b := newBench(t, t.TempDir(), Config{})
	b.db.NoSync = true
	if _, _, err := b.journal.load(); err != nil {
		t.Fatal(err)
	}
	output := strings.Repeat("x", api.MaxOutputBytes)
	n := maxBodyBytes/len(output) + 8
	for i := range n {
		if err := end(t, b, fmt.Sprintf("c%d", i), output); err != nil {
			t.Fatal(err)
		}
	}
	if b.journal.bytes > maxBodyBytes {
		t.Errorf("%d bytes kept", b.journal.bytes)
	}
	first, err := b.journal.status("c0")
	if err != nil || first.Output != output {
		t.Errorf("the first lost its output: %v", err)
	}
	last, err := b.journal.status(fmt.Sprintf("c%d", n-1))
	if err != nil || last.Output != "" || last.Truncated != int64(len(output)) || last.Phase != api.PhaseSucceeded {
		t.Errorf("the last is %+v, error %v", last, err)
	}
	b.journal.ack([]string{"c0"})
	if err := b.journal.flush(); err != nil {
		t.Fatal(err)
	}
	if first, err = b.journal.status("c0"); err != nil || first.Output != "" || first.Phase != api.PhaseSucceeded {
		t.Errorf("after its ack the first is %+v, error %v", first, err)
	}
	bytesBefore := b.journal.bytes
	if _, _, err := b.journal.load(); err != nil || b.journal.bytes != bytesBefore {
		t.Errorf("read again: %d bytes, error %v; wanted %d", b.journal.bytes, err, bytesBefore)
	}
}

func TestDamagedRecordsDoNotStopTheRest(t *testing.T) {
	b := newBench(t, t.TempDir(), Config{})
	leave(t, b, b.order("c1", "act", nil), api.PhaseAccepted, 0)
	err := b.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(b.journal.records).Put(key(9), []byte(`{"command":`)); err != nil {
			return err
		}
		// The same command once more, as after a commit that was reported as failed but was not.
		again := bytes.Clone(tx.Bucket(b.journal.records).Get(key(1)))
		return tx.Bucket(b.journal.records).Put(key(10), bytes.Replace(again, []byte(`"accepted"`), []byte(`"rejected"`), 1))
	})
	if err != nil {
		t.Fatal(err)
	}
	open, damaged, err := b.journal.load()
	if err != nil || damaged != 2 || len(open) != 0 {
		t.Fatalf("open %v, damaged %d, error %v; wanted the newer record to count", open, damaged, err)
	}
	if e, ok := b.journal.find("c1"); !ok || e.phase != api.PhaseRejected {
		t.Errorf("entry %+v", e)
	}
	if _, damaged, err := b.journal.load(); err != nil || damaged != 0 {
		t.Errorf("damaged %d, error %v after mending", damaged, err)
	}
}

func TestAFullDiskRejectsAndMendsLater(t *testing.T) {
	dir := t.TempDir()
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
	synctest.Test(t, func(t *testing.T) {
		ran := 0
		act := func(_ context.Context, _ *Job) (Outcome, error) { ran++; return Outcome{Output: "ran"}, nil }
		b := newBench(t, dir, Config{Verbs: []Verb{&spy{name: "act", act: act}}})
		b.run()
		b.handle(b.order("c0", "act", nil))
		b.want("c0", api.PhaseSucceeded)
		filler := filepath.Join(dir, "filler")
		if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
			t.Fatal("the disk is not full")
		}
		// Arguments large enough that bbolt has to grow its file.
		big := map[string]any{"x": strings.Repeat("x", 60<<10)}
		cmd := b.order("c1", "act", big)
		b.handle(cmd)
		s := b.want("c1", api.PhaseRejected)
		if !strings.Contains(s.Reason, "no space left") || ran != 1 {
			t.Fatalf("reason %q, ran %d times", s.Reason, ran)
		}
		b.handle(cmd)
		b.Resend(t.Context())
		b.want("c1", api.PhaseRejected)
		if ran != 1 {
			t.Fatal("an unjournalled command ran")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		pass(t, 2*time.Minute)
		if e, ok := b.journal.find("c1"); !ok || e.phase != api.PhaseRejected {
			t.Errorf("the rejection did not get into the journal: %+v", e)
		}
		b.handle(b.order("c2", "act", big))
		b.want("c2", api.PhaseSucceeded)
		b.Acked([]string{"c0", "c1", "c2"})
		if owed := b.Counts().Owed; owed != 0 {
			t.Errorf("%d owed", owed)
		}
	})
}

func TestEveryStatusFitsTheWire(t *testing.T) {
	deep := any("x")
	for range 8 {
		deep = map[string]any{"d": deep}
	}
	wide := map[string]any{}
	for i := range 300 {
		wide[fmt.Sprint(i)] = i
	}
	for name, c := range map[string]struct {
		output string
		result map[string]any
		left   bool // the result is left out
	}{
		"control characters": {strings.Repeat("\x01", api.MaxOutputBytes), nil, false},
		"not UTF-8":          {strings.Repeat("\xff\xfe", api.MaxOutputBytes), nil, false},
		"wide characters":    {strings.Repeat("é", api.MaxOutputBytes), nil, false},
		"output and result":  {strings.Repeat("<", api.MaxOutputBytes), map[string]any{"data": strings.Repeat("A", 32<<10)}, false},
		"large result":       {"", map[string]any{"data": strings.Repeat("A", 100<<10)}, true},
		"deep result":        {"o", map[string]any{"d": deep}, true},
		"wide result":        {"o", wide, true},
		"key with an escape": {"o", map[string]any{"a\n": 1}, true},
		"not representable":  {"o", map[string]any{"c": make(chan int)}, true},
		"nothing at all":     {"", nil, false},
		"just right":         {strings.Repeat("x", api.MaxOutputBytes), map[string]any{"a": []any{1, "b"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &api.Status{ID: "c1", Phase: api.PhaseFailed, Output: c.output, Result: c.result, Reason: strings.Repeat("r", 5000)}
			before := len(strings.ToValidUTF8(c.output, "\uFFFD"))
			fit(s)
			if err := s.Validate(); err != nil {
				t.Error(err)
			}
			r := &record{Command: api.Command{ID: "c1"}, Status: *s}
			raw, err := r.encode()
			if err != nil || len(raw) > 64<<10+512 {
				t.Errorf("%d bytes, error %v", len(raw), err)
			}
			if int(s.Truncated)+len(s.Output) != before {
				t.Errorf("%d truncated and %d kept; wanted %d together", s.Truncated, len(s.Output), before)
			}
			if (s.Result == nil) != (c.left || c.result == nil) {
				t.Errorf("result %v", s.Result)
			}
			if c.left && !strings.HasPrefix(s.Reason, "result left out") {
				t.Errorf("reason %.60q does not say so", s.Reason)
			}
		})
	}
}

func FuzzJournalRecordDecodesWhatRecoveryCanActOn(f *testing.F) {
	cmd := api.Command{ID: "c1", Node: "n1", Epoch: 1, Verb: "exec", Args: map[string]any{"argv": []any{"df"}}, By: "ann", Issued: 1, Deadline: 2}
	good, err := (&record{Command: cmd, Digest: "d", Status: api.Status{ID: "c1", Phase: api.PhaseRunning}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"command":{"id":"c1"},"status":{"phase":"bogus"}}`))
	f.Add(slices.Concat(good, good))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decodeRecord(raw)
		if err != nil {
			return
		}
		if !r.Status.Phase.Valid() || r.Command.Deadline <= r.Command.Issued || r.Command.ID != r.Status.ID {
			t.Fatalf("decoded %+v", r)
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeRecord(again); err != nil || back.Command.ID != r.Command.ID {
			t.Fatalf("what was encoded does not decode: %v", err)
		}
	})
}
