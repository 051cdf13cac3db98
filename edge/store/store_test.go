package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openAt(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func epoch(t *testing.T, s *Store) uint64 {
	t.Helper()
	e, err := s.NextEpoch()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEpochsOnlyGrowAlsoAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	last := uint64(0)
	for range 3 {
		s := openAt(t, dir)
		for range epochBlock + 5 {
			e := epoch(t, s)
			if e <= last {
				t.Fatalf("epoch %d after %d", e, last)
			}
			last = e
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARaisedEpochStaysRaised(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	first := epoch(t, s)
	s.RaiseEpoch(first) // knows that already
	if e := epoch(t, s); e != first+1 {
		t.Fatalf("epoch %d after %d", e, first)
	}
	s.RaiseEpoch(5_000_000_000)
	if e := epoch(t, s); e != 5_000_000_001 {
		t.Fatalf("epoch %d; wanted one above the floor", e)
	}
	if err := s.Close(); err != nil { // as a crash would leave it: nothing is written here
		t.Fatal(err)
	}
	s = openAt(t, dir)
	if e := epoch(t, s); e <= 5_000_000_001 {
		t.Fatalf("epoch %d after a restart", e)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedStateIsSetAsideAndTheNodeGoesOn(t *testing.T) {
	const page = 4096
	pages := func(harm func(p []byte)) func([]byte) []byte {
		return func(raw []byte) []byte {
			for at := 2 * page; at+page <= len(raw); at += page {
				harm(raw[at:])
			}
			return raw
		}
	}
	for name, harm := range map[string]func([]byte) []byte{
		"no database": func([]byte) []byte {
			return []byte("not a database, but long enough to be read as one's first page")
		},
		"less than two headers": func(raw []byte) []byte { return raw[:5000] },
		"two headers":           func(raw []byte) []byte { return raw[:2*page] },
		"half":                  func(raw []byte) []byte { return raw[:len(raw)/2/page*page] },
		"both headers":          func(raw []byte) []byte { raw[20] ^= 1; raw[page+20] ^= 1; return raw },
		"numbers of pages":      pages(func(p []byte) { p[0] ^= 0x40 }),
		"kinds of pages":        pages(func(p []byte) { p[8] ^= 0x55 }),
		"numbers of entries":    pages(func(p []byte) { p[10], p[11] = 0xff, 0x7f }),
		"order of keys":         func(raw []byte) []byte { return bytes.ReplaceAll(raw, keyFloor, []byte("zlock-floor")) },
		"places of entries":     pages(func(p []byte) { p[16+7], p[16+16+7] = 0x7f, 0x7f }),
	} {
		t.Run(name, func(t *testing.T) { setsAside(t, harm) })
	}
}

func setsAside(t *testing.T, harm func([]byte) []byte) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	s := openAt(t, dir)
	for i := range 30 {
		if err := errors.Join(s.SetDesired(make([]byte, 3000*(1+i%3))), s.SetFloor(time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, harm(raw), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s = openAt(t, dir)
	defer s.Close()
	if s.SetAside() == "" {
		t.Fatal("nothing was set aside")
	}
	if _, err := os.Stat(s.SetAside()); err != nil {
		t.Error(err)
	}
	if e := epoch(t, s); e < 1000 {
		t.Errorf("fresh state begins at epoch %d; wanted the time, which is above what was counted to", e)
	}
}

// TestAStateThatWasSetAsideIsToldOnce has a start set the damaged state aside and fail to begin a fresh one, for want of room, and
// the next one end before it has told anybody.
func TestAStateThatWasSetAsideIsToldOnce(t *testing.T) {
	dir := t.TempDir()
	aside := filepath.Join(dir, "state.db.corrupt")
	if err := errors.Join(os.WriteFile(aside, []byte("what was left"), 0o600), os.WriteFile(filepath.Join(dir, "state.db"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{aside, aside, "", ""} {
		s := openAt(t, dir)
		if s.SetAside() != want {
			t.Errorf("start %d: set aside %q; wanted %q", i, s.SetAside(), want)
		}
		if i == 1 {
			if err := s.Told(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAJournalThatBeganAnewKnowsWhatItMayHaveForgotten follows a store over a loss, the first session after it, and restarts.
func TestAJournalThatBeganAnewKnowsWhatItMayHaveForgotten(t *testing.T) {
	dir := t.TempDir()
	first := time.UnixMilli(1764000000000)
	wants := func(what string, s *Store, before, after bool) {
		t.Helper()
		if s.Forgot(first.Add(-time.Millisecond)) != before || s.Forgot(first) != after {
			t.Errorf("%s: forgot what was before %v, after %v; wanted %v, %v", what, s.Forgot(first.Add(-time.Millisecond)), s.Forgot(first), before, after)
		}
	}
	again := func(s *Store) *Store {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return openAt(t, dir)
	}
	s := openAt(t, dir)
	if err := s.Begin(first); err != nil {
		t.Fatal(err)
	}
	wants("a new node", s, false, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state.db"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, dir)
	wants("before the first session", s, true, true)
	s = again(s)
	wants("before the first session, after a restart", s, true, true)
	if err := errors.Join(s.Begin(first), s.Begin(first.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	wants("in the first session", s, true, false)
	s = again(s)
	wants("later", s, true, false)
	if err := s.Lose(); err != nil {
		t.Fatal(err)
	}
	wants("when records were removed", s, true, true)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsKeptComesBack(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	at := time.Unix(1795486294, 0)
	for _, err := range []error{s.SetFloor(at), s.SetDesired([]byte("d")), s.SetOverlay([]byte("o")), s.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s = openAt(t, dir)
	defer s.Close()
	floor, err := s.Floor()
	if err != nil || !floor.Equal(at) {
		t.Errorf("floor %s, %v; wanted %s", floor, err, at)
	}
	desired, err := s.Desired()
	overlay, err2 := s.Overlay()
	if err != nil || err2 != nil || string(desired) != "d" || string(overlay) != "o" {
		t.Errorf("desired %q, overlay %q, %v, %v", desired, overlay, err, err2)
	}
}

func TestASecondAgentIsToldWhoHoldsTheState(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	defer s.Close()
	if _, err := Open(dir, time.Now()); err == nil {
		t.Error("two agents hold one state")
	}
}
