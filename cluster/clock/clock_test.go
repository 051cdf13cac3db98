package clock

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// machine has a wall clock that a test sets and a boot clock that it lets run.
type machine struct {
	t      *testing.T
	db     *bbolt.DB
	real   time.Time // what it is
	off    time.Duration
	uptime time.Duration
	boot   string
	synced bool
	told   []string
	steps  []time.Duration
	*Clock
}

// born is when the build was made, and the machine set up.
func born() time.Time { return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) }

func newMachine(t *testing.T) *machine {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "cluster.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	db.NoSync = true // days of it
	m := &machine{t: t, db: db, real: born().Add(24 * time.Hour), uptime: time.Hour, boot: "b1"}
	m.start()
	return m
}

// start is a start of the agent.
func (m *machine) start() {
	m.t.Helper()
	c, err := Open(Config{DB: m.db, Floor: born(), Log: slog.New(slog.DiscardHandler), Boot: m.boot,
		Wall: func() time.Time { return m.real.Add(m.off) }, Uptime: func() time.Duration { return m.uptime }, Synced: func() bool { return m.synced },
		OnStray: func(why string) { m.told = append(m.told, why) }, OnStep: func(by time.Duration) { m.steps = append(m.steps, by) }})
	if err != nil {
		m.t.Fatal(err)
	}
	m.Clock = c
}

// reboot starts the machine anew after it was off for a time.
func (m *machine) reboot(was time.Duration) {
	m.real, m.boot, m.uptime = m.real.Add(was), m.boot+"+", time.Minute
	m.start()
}

// pass lets time go by, as Run would see it.
func (m *machine) pass(d time.Duration) {
	m.t.Helper()
	for range int(d / (10 * time.Second)) {
		m.real, m.uptime = m.real.Add(10*time.Second), m.uptime+10*time.Second
		if step := m.round(); step != 0 {
			m.steps = append(m.steps, step)
		}
		if err := m.keep(); err != nil {
			m.t.Fatal(err)
		}
	}
}

// tells checks the time, by how far it is off.
func (m *machine) tells(what string, off time.Duration) {
	m.t.Helper()
	if got := m.Now().Sub(m.real); got != off {
		m.t.Errorf("%s: the time is off by %s; wanted %s", what, got, off)
	}
}

// doubts checks what becomes of telemetry: put off at all, and what is ahead.
func (m *machine) doubts(what string, all, future bool) {
	m.t.Helper()
	if err := m.Doubt(false); (err != nil) != all {
		m.t.Errorf("%s: doubt %v; wanted %v", what, err, all)
	}
	if err := m.Doubt(true); (err != nil) != future {
		m.t.Errorf("%s: doubt of what is ahead %v; wanted %v", what, err, future)
	}
}

func TestAClockThatIsSetBackPutsTelemetryOffUntilItIsRight(t *testing.T) {
	for _, by := range []time.Duration{-2 * time.Minute, -time.Hour, -24 * time.Hour, -56 * 365 * 24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			m := newMachine(t)
			m.pass(time.Minute)
			m.off = by
			m.tells("at once", 0)
			m.doubts("at once", true, true)
			m.pass(30 * time.Minute)
			m.tells("after half an hour", 0)
			m.start() // the agent is killed
			m.tells("after a start", 0)
			m.doubts("after a start", true, true)
			m.pass(time.Minute)
			m.off = 0
			m.doubts("right again", false, false)
			m.pass(time.Minute)
			m.tells("right again", 0)
			if n := len(m.told); n < 2 || !strings.Contains(m.told[0], "set back") || m.told[n-1] != "" || len(m.steps) != 0 {
				t.Errorf("told %q, steps %v; wanted it raised and cleared", m.told, m.steps)
			}
		})
	}
}

func TestAShortJumpAheadMovesNothingAndLeavesNothingBehind(t *testing.T) {
	m := newMachine(t)
	m.pass(time.Minute)
	m.off = 24 * time.Hour
	m.pass(9 * time.Minute)
	m.tells("ahead", 0)
	m.doubts("ahead", false, true) // what is ahead of us may be right
	m.off = 0
	m.tells("right again", 0)
	m.doubts("right again", false, false)
	m.start()
	m.doubts("after a start", false, false)
}

func TestAClockThatStaysAheadIsBelievedAndPutRightWithinAnHour(t *testing.T) {
	m := newMachine(t)
	m.pass(time.Minute)
	m.off = 24 * time.Hour
	m.pass(11 * time.Minute)
	m.tells("after ten minutes", 24*time.Hour)
	m.off = 0
	m.doubts("set right", true, true)
	m.pass(59 * time.Minute)
	m.doubts("for an hour", true, true)
	m.pass(2 * time.Minute)
	m.tells("after an hour", 0)
	m.doubts("after an hour", false, false)
	if len(m.steps) != 2 || m.steps[0] != 24*time.Hour || m.steps[1] != -24*time.Hour {
		t.Errorf("steps %v; wanted a day ahead and back", m.steps)
	}
}

func TestADisciplinedClockIsBelievedAtOnce(t *testing.T) {
	m := newMachine(t)
	m.pass(time.Minute)
	m.off = 24 * time.Hour
	m.pass(11 * time.Minute)
	m.off, m.synced = 0, true // the machine has found a time server
	m.pass(10 * time.Second)
	m.tells("disciplined", 0)
	m.doubts("disciplined", false, false)
}

func TestAClockBeforeTheBuildIsNeverBelieved(t *testing.T) {
	m := newMachine(t)
	m.pass(time.Minute)
	m.synced = true
	m.off = time.Unix(60, 0).Sub(m.real)
	m.pass(24 * time.Hour)
	m.tells("in 1970", 0)
	m.doubts("in 1970", true, true)
}

func TestAMachineThatWakesInThePastHoldsTelemetryAndFollowsWhenItIsPutRight(t *testing.T) {
	for name, year := range map[string]bool{"1970": true, "an hour before it stopped": false} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.pass(time.Minute)
			m.off = -4 * time.Hour // it was off for three
			if year {
				m.off = time.Unix(60, 0).Sub(m.real)
			}
			m.reboot(3 * time.Hour)
			m.tells("after the start", -3*time.Hour) // the last time that it knew
			m.doubts("after the start", true, true)
			m.off = 0
			m.tells("put right", 0)
			m.doubts("put right", false, true) // within ten minutes of the boot it may happen again
			m.pass(10 * time.Minute)
			m.doubts("later", false, false)
		})
	}
}

// A machine without a clock that is kept by a battery wakes at the time it was stopped, and nobody can see that it is wrong.
func TestAMachineThatWakesWhereItStoppedDoesNotCallOthersAhead(t *testing.T) {
	m := newMachine(t)
	m.pass(time.Minute)
	m.off = -3 * time.Hour
	m.reboot(3 * time.Hour)
	m.doubts("after the start", false, true)
	m.pass(9 * time.Minute)
	m.doubts("ten minutes after the boot", false, false)
	m.off, m.synced = 0, true
	m.pass(10 * time.Second)
	m.tells("put right", 0)
}

func TestASmallStepIsFollowed(t *testing.T) {
	m := newMachine(t)
	for _, off := range []time.Duration{4 * time.Second, 0, -4 * time.Second} {
		m.off = off
		m.tells("a small step", off)
		m.doubts("a small step", false, false)
	}
}
