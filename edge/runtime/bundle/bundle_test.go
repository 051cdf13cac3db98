package bundle

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, dir string) *Bundle {
	t.Helper()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func fresh(t *testing.T) (string, *Bundle) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "w_a_0")
	if err := Create(dir, &Record{ID: "w_a_0", Kind: KindProcess}); err != nil {
		t.Fatal(err)
	}
	return dir, open(t, dir)
}

func TestWhoHasTheBundleIsSeenWithoutTakingIt(t *testing.T) {
	dir, b := fresh(t)
	other := open(t, dir)
	if held, err := other.Held(); held || err != nil {
		t.Fatalf("held %v, %v", held, err)
	}
	if err := b.Take(); err != nil {
		t.Fatal(err)
	}
	if held, err := other.Held(); !held || err != nil {
		t.Errorf("held %v, %v; wanted true", held, err)
	}
	if err := other.Take(); !errors.Is(err, ErrHeld) {
		t.Errorf("taken twice: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if held, err := other.Held(); held || err != nil {
		t.Errorf("held %v, %v after it was given back", held, err)
	}
}

func TestAContainerBeginsOnceAndEndsOnce(t *testing.T) {
	_, b := fresh(t)
	if err := b.Begin(&Begun{Pid: 1}); err != nil {
		t.Fatal(err)
	}
	if err := b.Begin(&Begun{Pid: 2}); err == nil {
		t.Error("it began twice")
	}
	if err := b.Finish(&End{Exit: 3}); err != nil {
		t.Fatal(err)
	}
	if err := b.Finish(&End{Exit: 4}); err != nil {
		t.Fatal(err)
	}
	st, err := b.State()
	if err != nil || st.Begun == nil || st.Begun.Pid != 1 || st.End == nil || st.End.Exit != 3 {
		t.Errorf("got %+v, %v", st, err)
	}
}

func TestTheEndHasRoomBeforeItIsKnown(t *testing.T) {
	dir, b := fresh(t)
	if err := b.Begin(&Begun{}); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(dir, spareFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{strings.Repeat("long ", 1000), strings.Repeat("\x01", 1000), strings.Repeat("é", 1000)} {
		raw, err := (&End{Exit: 255, Message: message, Finished: time.Now(), LostLog: 1 << 63}).encode()
		if err != nil || int64(len(raw)) != before.Size() {
			t.Errorf("an end of %d bytes, %v; room is %d", len(raw), err, before.Size())
		}
	}
}

func TestABundleAppearsWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w_a_0")
	if err := os.MkdirAll(filepath.Join(filepath.Dir(dir), ".new-w_a_0", "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Create(dir, &Record{ID: "w_a_0"}); err != nil {
		t.Fatal(err)
	}
	if err := Create(dir, &Record{ID: "w_a_0"}); err == nil {
		t.Error("made twice")
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// TestABundleThatIsBeingRemovedIsNotThere has one read what another removes, at every step of it: out of sight, some files gone, and
// another of the same name.
func TestABundleThatIsBeingRemovedIsNotThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w_a_0")
	if err := Create(dir, &Record{ID: "w_a_0"}); err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if s, err := b.StateIn(dir); err != nil || s.Record.ID != "w_a_0" {
		t.Fatalf("whole: %+v, %v", s, err)
	}
	gone := filepath.Join(filepath.Dir(dir), ".gone")
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"moved", func() error { return os.Rename(dir, gone) }},
		{"record removed", func() error { return os.Remove(filepath.Join(gone, recordFile)) }},
		{"all removed", func() error { return os.RemoveAll(gone) }},
		{"made again", func() error { return Create(dir, &Record{ID: "w_a_0"}) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if s, err := b.StateIn(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %+v, %v; wanted that it is not there", step.what, s, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil {
		t.Fatal(err)
	}
	broken, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	if _, err := broken.StateIn(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is there without a record: %v; wanted that it says so", err)
	}
}

func FuzzFrame(f *testing.F) {
	var good bytes.Buffer
	if err := WriteJSON(&good, FrameRequest, Request{Op: OpExec, Argv: []string{"ls"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{FrameStdin, 0, 0, 0, 0})
	f.Add([]byte{FrameStdout, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		kind, body, err := ReadFrame(bytes.NewReader(raw), nil)
		if err != nil {
			return
		}
		if len(body) > MaxRequest || kind != FrameRequest && len(body) > MaxFrame {
			t.Fatalf("kind %d with %d bytes", kind, len(body))
		}
		var out bytes.Buffer
		if err := WriteFrame(&out, kind, body); err != nil || !bytes.HasPrefix(raw, out.Bytes()) {
			t.Fatalf("written again: %x, %v", out.Bytes(), err)
		}
		var r Request
		_ = ReadJSON(bytes.NewReader(raw), FrameRequest, &r) // it may be anything; it may not panic
	})
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1"))
	f.Add([]byte(")"))
	f.Add([]byte("12 (a) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 66666666666666666666 1 1"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		start, err := parseStart(raw)
		if err != nil && start != 0 {
			t.Fatalf("%d with %v", start, err)
		}
	})
}

func FuzzEnd(f *testing.F) {
	f.Add(`{"exit":3}`)
	f.Fuzz(func(t *testing.T, text string) {
		var e End
		if decode("end", []byte(text), &e) != nil {
			return
		}
		raw, err := e.encode()
		if err != nil || len(raw) != maxEnd {
			t.Skip() // a time that JSON has no form for
		}
		var again End
		if err := decode("end", raw, &again); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheStartOfAProcessIsReadPastItsName(t *testing.T) {
	start, err := parseStart([]byte("12 (a) 7 (x) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1"))
	if err != nil || start != 98765 {
		t.Errorf("%d, %v", start, err)
	}
}
