package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asTrial in the environment makes the test program be an agent on trial on a directory: "how dir".
const asTrial = "SKERRY_TEST_AS_TRIAL"

func TestMain(m *testing.M) {
	how, dir, ok := strings.Cut(os.Getenv(asTrial), " ")
	if !ok {
		os.Exit(m.Run())
	}
	self, err := Adopt(dir)
	if err != nil || !self.OnTrial() || os.Getenv(envSlot) != "" || os.Getenv("NOTIFY_SOCKET") != "" {
		fmt.Fprintln(os.Stderr, "not as a trial is to be:", err, self, os.Environ())
		os.Exit(9)
	}
	switch how {
	case "prove":
		err = self.Prove()
	case "fail":
		err = self.Fail("no broker")
	}
	if err != nil {
		os.Exit(8)
	}
	os.Exit(0)
}

// rig is a directory with 1.0.0 in slot b, which is active, and 2.0.0 on trial in a.
type rig struct {
	t        *testing.T
	dir      *Dir
	launcher *Launcher
	said     bytes.Buffer
	became   string // path of the program that was execed
	env      []string
}

var errBecame = errors.New("this process would be another by now")

func newRig(t *testing.T, trial string, window time.Duration) *rig {
	t.Helper()
	r := &rig{t: t, dir: opened(t)}
	s := State{Base: "base", Active: SlotB, Slots: map[Slot]Image{}}
	for slot, script := range map[Slot]string{SlotA: trial, SlotB: "#!/bin/sh\nexit 0\n"} {
		path := r.dir.Program(slot)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(script), 0o700)); err != nil {
			t.Fatal(err)
		}
		sum, n, err := digestFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.Slots[slot] = Image{Version: map[Slot]string{SlotA: "2.0.0", SlotB: "1.0.0"}[slot], SHA256: sum, Bytes: n, Proved: slot == SlotB}
	}
	s.Trial = &Trial{Slot: SlotA, Command: "c1", From: "1.0.0", WindowSeconds: int(window / time.Second)}
	if _, err := r.dir.Change(func(to *State) error { *to = s; return nil }); err != nil {
		t.Fatal(err)
	}
	r.launcher = &Launcher{Dir: r.dir, Self: "/installed", Build: "base", Argv: []string{"skerry-edge", "run"}, Log: &r.said, Environ: os.Environ(),
		Margin: 300 * time.Millisecond, exec: func(path string, _, env []string) error {
			if r.became == "" { // the first counts: where nothing can be execed, the launcher falls back from one to the next
				r.became, r.env = path, env
			}
			return errBecame
		}}
	return r
}

// run launches until a program would have been execed, and returns the state then.
func (r *rig) run() State {
	r.t.Helper()
	self, err := r.launcher.Run(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if self != nil {
		_ = self.lock.Close()
	}
	s, err := r.dir.State()
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// hearer is a log that has something done when a word is first written to it.
type hearer struct {
	to   io.Writer
	word string
	do   func()
}

func (h *hearer) Write(p []byte) (int, error) {
	if h.do != nil && bytes.Contains(p, []byte(h.word)) {
		h.do()
		h.do = nil
	}
	return h.to.Write(p)
}

// asSelf is a program that is this test program on trial.
func asSelf(how string) string {
	return "#!/bin/sh\n" + asTrial + "=\"" + how + " $(dirname \"$(dirname \"$0\")\")\" exec " + os.Args[0] + "\n"
}

func TestAProgramThatShowsItsHealthBecomesTheActiveOne(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	r := newRig(t, asSelf("prove"), time.Minute)
	s := r.run()
	o, ok := s.Outcome("c1")
	if !ok || !o.OK || r.became != r.dir.Program(SlotA) || s.Floor != "2.0.0" {
		t.Fatalf("%+v, became %s; said %s", s, r.became, r.said.String())
	}
	if !slices.ContainsFunc(r.env, func(e string) bool { return strings.HasPrefix(e, envLock+"=") }) || !slices.Contains(r.env, envLauncher+"=/installed") {
		t.Errorf("environment %v; wanted the contract's variables", r.env)
	}
}

func TestWhateverElseATrialDoesTheOneBeforeComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		program string
		window  time.Duration
		why     string
		starts  int
	}{
		"ends at once":     {"#!/bin/sh\nexit 2\n", time.Minute, "ended 3 times", 3},
		"gives up":         {asSelf("fail"), time.Minute, "no broker", 1},
		"hangs":            {"#!/bin/sh\nexec sleep 1000\n", time.Second, "was killed", 1},
		"is no program":    {"\x00\x01", time.Minute, "exec format error", 0},
		"ignores what not": {"#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n", time.Second, "was killed", 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.program, c.window)
			s := r.run()
			o, ok := s.Outcome("c1")
			if !ok || o.OK || !strings.Contains(o.Reason, c.why) || r.became != r.dir.Program(SlotB) {
				t.Errorf("%+v, became %s; wanted %q and slot b; said %s", s, r.became, c.why, r.said.String())
			}
			if got := strings.Count(r.said.String(), "is on trial"); got != c.starts {
				t.Errorf("%d starts; wanted %d: %s", got, c.starts, r.said.String())
			}
		})
	}
}

// TestATrialThatAnOutsiderKillsIsStartedAgain has the trial killed twice, which is no crash loop yet.
func TestATrialThatAnOutsiderKillsIsStartedAgain(t *testing.T) {
	starts := filepath.Join(t.TempDir(), "starts")
	r := newRig(t, "#!/bin/sh\necho >>"+starts+"\n[ $(wc -l <"+starts+") -lt 3 ] && kill -9 $$\n"+strings.TrimPrefix(asSelf("prove"), "#!/bin/sh\n"), time.Minute)
	s := r.run()
	if o, ok := s.Outcome("c1"); !ok || !o.OK || r.became != r.dir.Program(SlotA) {
		t.Errorf("%+v, became %s; wanted slot a; said %s", s, r.became, r.said.String())
	}
}

func TestWhatIsToldToEndDoesNotBecomeAnother(t *testing.T) {
	r := newRig(t, "", time.Minute)
	if _, err := r.dir.Change(func(s *State) error { s.Trial = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	end()
	if self, err := r.launcher.Run(ctx); self != nil || err != nil || r.became != "" {
		t.Errorf("became %q, %v, %v; wanted it to end", r.became, self, err)
	}
}

func TestASecondAgentWaitsForTheEndOfTheFirst(t *testing.T) {
	r := newRig(t, "", time.Minute)
	if _, err := r.dir.Change(func(s *State) error { s.Trial = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	first, err := r.dir.hold(runLock, false)
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{})
	r.launcher.Log = &hearer{to: &r.said, word: "waiting for its end", do: func() { close(waits) }}
	done := make(chan State, 1)
	go func() { done <- r.run() }()
	<-waits
	select {
	case <-done:
		t.Fatal("two agents run at once")
	case <-time.After(500 * time.Millisecond):
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	if r.became != r.dir.Program(SlotB) {
		t.Errorf("became %s", r.became)
	}
	want := fmt.Sprintf("another agent (process %d) runs on %s; waiting for its end\n", os.Getpid(), r.dir.path)
	if strings.Count(r.said.String(), want) != 1 {
		t.Errorf("said %q; wanted at once, and once: %q", r.said.String(), want)
	}
}

func TestASupervisorStartsAgainAndPassesOnWhatEndsIt(t *testing.T) {
	dir := t.TempDir()
	count := filepath.Join(dir, "starts")
	script := filepath.Join(dir, "agent")
	text := "#!/bin/sh\necho >>" + count + "\n[ $(wc -l <" + count + ") -lt 3 ] && kill -9 $$\ntrap 'exit 0' TERM\nkill -TERM " + fmt.Sprint(os.Getpid()) +
		"\nwhile :; do sleep 0.05; done\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	s := &Supervisor{Argv: []string{script}, Final: 2, Log: &said, First: time.Millisecond, Longest: time.Millisecond, Stable: time.Hour}
	code, err := s.Run(t.Context())
	if raw, _ := os.ReadFile(count); err != nil || code != 0 || len(raw) != 3 {
		t.Errorf("code %d, %v after %d starts; wanted 0 after 3: %s", code, err, len(raw), said.String())
	}
	if !strings.Contains(said.String(), fmt.Sprint(128+int(syscall.SIGKILL))) {
		t.Errorf("said %s; wanted the signal", said.String())
	}
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if code, err := s.Run(t.Context()); err != nil || code != 2 {
		t.Errorf("code %d, %v; wanted 2 at once, as no restart helps", code, err)
	}
}
