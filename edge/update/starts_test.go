package update

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAProgramThatDoesNotStayUpIsLeftForOneThatHadProvedItself(t *testing.T) {
	broken := errors.New("damaged")
	for name, c := range map[string]struct {
		active  Slot
		spare   bool // the other slot has proved itself
		sound   func(Slot, Image) error
		unclean int
		want    Slot
		back    string // version in the outcome; empty: there is none
	}{
		"it stays up":                        {SlotA, true, sound, 0, SlotA, ""},
		"it ended now and then":              {SlotA, true, sound, maxUnclean - 1, SlotA, ""},
		"the one before had proved itself":   {SlotA, true, sound, maxUnclean, SlotB, "1.0.0"},
		"the one before had not":             {SlotA, false, sound, maxUnclean, Installed, "0.9.0"},
		"the one before is damaged":          {SlotA, true, func(s Slot, _ Image) error { return map[Slot]error{SlotB: broken}[s] }, maxUnclean, Installed, "0.9.0"},
		"the installed one, with none below": {Installed, true, sound, maxUnclean, Installed, ""},
	} {
		s := State{Base: "0.9.0 commit", Active: c.active, Floor: "2.0.0", Slots: map[Slot]Image{
			SlotA: {Version: "2.0.0", Proved: true, Counted: true, Command: "desired/7/2.0.0"}, SlotB: {Version: "1.0.0", Proved: c.spare}}}
		got, slot := next(s, scene{"0.9.0 commit", c.sound, c.unclean})
		o, ended := got.Outcome("desired/7/2.0.0")
		if slot != c.want || got.Active != c.want || ended != (c.back != "") || got.Trouble != "" {
			t.Errorf("%s: runs %s, %+v; wanted %s", name, slot, got, c.want)
		}
		if ended && (o.OK || o.Told || o.Version != "2.0.0" || o.From != c.back || !strings.Contains(o.Reason, "ended 5 times") || got.Slots[SlotA].Proved) {
			t.Errorf("%s: %+v, slots %+v", name, o, got.Slots)
		}
	}
}

// active makes a the slot that is active, with a program that tells when it has stayed up, or one of before that did not.
func (r *rig) active(counted bool) {
	r.t.Helper()
	r.launcher.Boot = "boot1"
	if _, err := r.dir.Change(func(s *State) error {
		img := s.Slots[SlotA]
		img.Proved, img.Counted, img.Command = true, counted, "c1"
		s.Slots[SlotA], s.Active, s.Trial = img, SlotA, nil
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
}

func TestACrashLoopIsCountedWithinABootAndFromTheLastTimeThatTheProgramStayedUp(t *testing.T) {
	stayed := func(r *rig) {
		f, err := os.OpenFile(filepath.Join(r.dir.path, runLock), os.O_RDWR, 0)
		if err == nil {
			err = errors.Join((&Self{dir: r.dir, slot: SlotA, lock: f}).Stayed(), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		counted bool
		between func(r *rig)
		back    bool
	}{
		"it crashes":                   {true, func(*rig) {}, true},
		"it stays up, or is stopped":   {true, stayed, false},
		"power fails":                  {true, func(r *rig) { r.launcher.Boot += "x" }, false},
		"the boot is not known":        {true, func(r *rig) { r.launcher.Boot = "" }, false},
		"a program that never tells":   {false, func(*rig) {}, false},
		"the file of the count is bad": {true, func(r *rig) { _ = os.WriteFile(filepath.Join(r.dir.path, runLock), []byte("boot1 a many\n"), 0o600) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "#!/bin/sh\n", time.Minute)
			r.active(c.counted)
			r.launcher.exec = func(path string, _, _ []string) error { // as if it were this process now
				r.became = path
				panic(errBecame)
			}
			ran := map[string]int{}
			for range maxUnclean + 2 {
				func() {
					defer func() {
						if e := recover(); e != nil && e != error(errBecame) { //nolint:errorlint // it is that value
							panic(e)
						}
						_ = r.launcher.lock.Close() // as the end of the process does
					}()
					r.run()
				}()
				ran[filepath.Base(filepath.Dir(r.became))]++
				c.between(r)
			}
			s, err := r.dir.State()
			if err != nil {
				t.Fatal(err)
			}
			o, ended := s.Outcome("c1")
			if want := (map[bool]int{true: maxUnclean, false: maxUnclean + 2})[c.back]; ran["a"] != want || ended != c.back || ended && o.OK {
				t.Errorf("ran %v, then %+v; wanted a %d times", ran, s, want)
			}
		})
	}
}

func TestAProgramThatProvesItselfWhereOneHadCrashedIsCountedAnew(t *testing.T) {
	r := newRig(t, asSelf("prove"), time.Minute)
	r.launcher.Boot = "boot1"
	path := filepath.Join(r.dir.path, runLock)
	if err := os.WriteFile(path, []byte("boot1 a 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.launcher.exec = func(path string, _, _ []string) error {
		r.became = path
		panic(errBecame)
	}
	func() {
		defer func() { _ = recover() }()
		r.run()
	}()
	if raw, err := os.ReadFile(path); err != nil || r.became != r.dir.Program(SlotA) || string(raw) != "boot1 a 1\n" {
		t.Errorf("became %s, counted %q, %v; said %s", r.became, raw, err, r.said.String())
	}
}

func TestADeviceThatCannotStartAnythingSaysNothingOfAProgram(t *testing.T) {
	r := newRig(t, "#!/bin/sh\n", time.Minute)
	r.active(true)
	times := 0
	r.launcher.exec = func(path string, _, _ []string) error {
		if times++; times < 3 {
			return syscall.EAGAIN
		}
		if r.became == "" {
			r.became = path
		}
		return errBecame
	}
	if s := r.run(); r.became != r.dir.Program(SlotA) || times < 3 {
		t.Errorf("became %s after %d tries; wanted slot a at the third: %+v", r.became, times, s)
	}
}

// TestATrialWhoseFileSomebodyWritesToIsStartedWhenTheyAreDone has the fork fail with ETXTBSY for a while.
func TestATrialWhoseFileSomebodyWritesToIsStartedWhenTheyAreDone(t *testing.T) {
	r := newRig(t, asSelf("prove"), time.Minute)
	f, err := os.OpenFile(r.dir.Program(SlotA), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.launcher.Log = &hearer{to: &r.said, word: "text file busy", do: func() { _ = f.Close() }}
	s := r.run()
	if o, ended := s.Outcome("c1"); !ended || !o.OK || !strings.Contains(r.said.String(), "text file busy") {
		t.Errorf("%+v; said %s", s, r.said.String())
	}
}

func TestATrialThatCouldNotConnectIsJudgedByWhetherTheProgramBeforeCan(t *testing.T) {
	for name, c := range map[string]struct {
		offline, connects bool
		vain              bool
		why               string
	}{
		"the one before connects":         {false, true, false, ""},
		"the one before cannot either":    {false, false, true, "1.0.0 cannot connect either"},
		"there was no link to begin":      {true, true, true, "no link before"},
		"there was none and there is not": {true, false, true, "no link before"},
	} {
		d := opened(t)
		if _, err := d.Change(onTrial); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Change(func(s *State) error { s.Trial.Offline = c.offline; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := (&Self{dir: d, slot: SlotA, trial: true}).Doubt("no broker"); err != nil {
			t.Fatal(err)
		}
		s, err := d.State()
		if err != nil || s.InDoubt() == c.offline {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if err := (&Self{dir: d, slot: SlotB}).Judge(c.connects); err != nil {
			t.Fatal(err)
		}
		s, err = d.State()
		o, ended := s.Outcome("c1")
		if err != nil || !ended || s.InDoubt() || o.OK || o.Vain != c.vain || !strings.Contains(o.Reason, c.why) {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
}

func TestASupervisorGoesOnWhenAStartFails(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "agent")
	var said strings.Builder
	replaced := &hearer{to: &said, word: "no such file", do: func() { // the program was being replaced
		_ = errors.Join(os.WriteFile(script+".new", []byte("#!/bin/sh\nexit 2\n"), 0o700), os.Rename(script+".new", script))
	}}
	s := &Supervisor{Argv: []string{script}, Final: 2, Log: replaced, First: 20 * time.Millisecond, Longest: 20 * time.Millisecond, Stable: time.Hour}
	if code, err := s.Run(t.Context()); err != nil || code != 2 || !strings.Contains(said.String(), "no such file") {
		t.Errorf("code %d, %v; said %s", code, err, said.String())
	}
}
