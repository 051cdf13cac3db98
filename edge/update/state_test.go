package update

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func opened(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func onTrial(s *State) error {
	s.Base, s.Active = "base", SlotB
	s.Slots = map[Slot]Image{SlotA: {Version: "2.0.0", SHA256: "aa", Bytes: 2}, SlotB: {Version: "1.0.0", Proved: true}}
	s.Trial = &Trial{Slot: SlotA, Command: "c1", From: "1.0.0", WindowSeconds: 60}
	return nil
}

func TestStateIsReadWhateverByteIsTorn(t *testing.T) {
	d := opened(t)
	if _, err := d.Change(func(s *State) error { s.Base, s.Floor = "base", "1.0.0"; return nil }); err != nil {
		t.Fatal(err)
	}
	last, err := d.Change(onTrial)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.path, stateName(last.Seq))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for _, damage := range [][]byte{whole[:i], append(append(bytes.Clone(whole[:i]), whole[i]^0x20), whole[i+1:]...)} {
			if err := os.WriteFile(path, damage, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := d.State()
			if err != nil || s.Seq != last.Seq-1 || s.Base != "base" || s.Trial != nil {
				t.Fatalf("with byte %d damaged: %+v, %v; wanted the state before", i, s, err)
			}
		}
	}
}

func TestStateThatIsGoneAltogetherSaysSoAndRunsTheInstalledProgram(t *testing.T) {
	d := opened(t)
	for range 2 {
		if _, err := d.Change(onTrial); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"state.0", "state.1"} {
		if err := os.WriteFile(filepath.Join(d.path, name), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := d.State()
	if err != nil || s.Trouble == "" {
		t.Fatalf("%+v, %v; wanted its trouble", s, err)
	}
	if s, slot := next(s, scene{build: "base", sound: sound}); slot != Installed || s.Trouble == "" || s.Base != "base" {
		t.Fatalf("runs %s with %+v; wanted the installed program", slot, s)
	}
}

func TestAChangeThatIsRefusedWritesNothing(t *testing.T) {
	d := opened(t)
	if _, err := d.Change(func(*State) error { return ErrReturned }); !errors.Is(err, ErrReturned) {
		t.Fatal(err)
	}
	if s, err := d.State(); err != nil || s.Seq != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
}

func sound(Slot, Image) error { return nil }

func TestWhatAStartRuns(t *testing.T) {
	broken := errors.New("damaged")
	trial := func(starts int) State {
		var s State
		_ = onTrial(&s)
		s.Trial.Starts = starts
		return s
	}
	settled := func(active Slot) State {
		s := trial(0)
		s.Trial, s.Active = nil, active
		return s
	}
	bad := func(slots ...Slot) func(Slot, Image) error {
		return func(s Slot, _ Image) error {
			for _, b := range slots {
				if s == b {
					return broken
				}
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		s         State
		build     string
		sound     func(Slot, Image) error
		want      Slot
		starts    int // of the trial after it; -1: there is none
		failed    bool
		troubling bool
	}{
		"a device that was never updated":    {State{}, "base", sound, Installed, -1, false, false},
		"the active slot":                    {settled(SlotB), "base", sound, SlotB, -1, false, false},
		"a trial, first start":               {trial(0), "base", sound, SlotA, 1, false, false},
		"a trial, last start":                {trial(2), "base", sound, SlotA, 3, false, false},
		"a trial that failed":                {trial(3), "base", sound, SlotB, -1, true, false},
		"a trial whose file is damaged":      {trial(0), "base", bad(SlotA), SlotB, -1, true, false},
		"trial and active damaged":           {trial(0), "base", bad(SlotA, SlotB), Installed, -1, true, true},
		"active damaged, other never proved": {settled(SlotB), "base", bad(SlotB), Installed, -1, false, true},
		"active damaged, other proved":       {settled(SlotA), "base", bad(SlotA), SlotB, -1, false, true},
		"a new installed program":            {settled(SlotB), "newer", sound, Installed, -1, false, false},
		"a new installed program in a trial": {trial(1), "newer", sound, Installed, -1, true, false},
	} {
		got, slot := next(c.s, scene{build: c.build, sound: c.sound})
		starts := -1
		if got.Trial != nil {
			starts = got.Trial.Starts
		}
		o, ended := got.Outcome("c1")
		if slot != c.want || starts != c.starts || ended != c.failed || ended && (o.OK || o.Reason == "") || (got.Trouble != "") != c.troubling {
			t.Errorf("%s: runs %s, %d starts, outcome %+v %v, trouble %q; wanted %+v", name, slot, starts, o, ended, got.Trouble, c)
		}
		if got.Base != c.build {
			t.Errorf("%s: base %q; wanted %q", name, got.Base, c.build)
		}
	}
}

// TestAPowerCutAtAnyWriteLeavesAProgramThatProvedItself cuts the power before each write of an update: what starts then is
// what was active, or the trial, and an update that is begun anew comes to its end.
func TestAPowerCutAtAnyWriteLeavesAProgramThatProvedItself(t *testing.T) {
	errCut := errors.New("power cut")
	for at := 0; ; at++ {
		d := opened(t)
		if _, err := d.Change(func(s *State) error {
			s.Base, s.Active, s.Slots = "base", SlotB, map[Slot]Image{SlotB: {Version: "1.0.0", Proved: true}}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		steps, cut := 0, false
		d.cut = func(string) error {
			if steps++; steps == at+1 {
				cut = true
				return errCut
			}
			return nil
		}
		starts := 0
		for lives := 0; ; lives++ {
			if lives > 8 {
				t.Fatalf("cut %d: no end", at)
			}
			s, err := d.State()
			if err != nil {
				t.Fatal(err)
			}
			if o, ended := s.Outcome("c1"); ended {
				if !o.OK || s.Active != SlotA {
					t.Fatalf("cut %d: %+v", at, s)
				}
				break
			}
			if s.Trial == nil && s.Active != SlotB {
				t.Fatalf("cut %d: active is %s before anything proved itself", at, s.Active)
			}
			if err := oneLife(d, &starts); err != nil && !errors.Is(err, errCut) {
				t.Fatal(err)
			}
		}
		if !cut {
			if at < 9 {
				t.Fatalf("an update has %d writes; the test is broken", at)
			}
			return
		}
	}
}

// oneLife begins an update, or starts what is due and proves it.
func oneLife(d *Dir, starts *int) error {
	slot := Installed
	s, err := d.Change(func(s *State) error {
		*s, slot = next(*s, scene{build: "base", sound: sound})
		return nil
	})
	if err != nil {
		return err
	}
	if s.Trial == nil {
		_, err := d.Change(onTrial)
		return err
	}
	*starts++
	return (&Self{dir: d, slot: slot}).Prove()
}
