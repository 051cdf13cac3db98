package command

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// wrongClock is that of a device whose wall clock a test sets, and that nothing disciplines.
func wrongClock(off *atomic.Int64) *agent.Clock {
	up := time.Now()
	return agent.NewClock(time.Time{}, agent.ClockSource{System: func() time.Time { return time.Now().Add(time.Duration(off.Load())) },
		Boot: func() time.Duration { return time.Since(up) }, Synced: func() bool { return false }})
}

func TestNoStepOfAClockMovesTheDeadlineOfACommandThatIsHeld(t *testing.T) {
	for _, step := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var off atomic.Int64
				clock := wrongClock(&off)
				clock.Word(1, time.Now())
				b := newBench(t, t.TempDir(), Config{Clock: clock, Verbs: []Verb{&spy{name: "act", act: untilTold}}})
				b.run()
				b.handle(b.order("c1", "act", nil))
				off.Store(int64(step))
				clock.Word(2, time.Now().Add(step))
				pass(t, time.Hour-time.Second)
				b.want("c1", api.PhaseRunning)
				pass(t, time.Second)
				b.want("c1", api.PhaseTimedOut)
			})
		})
	}
}

func TestADeadlineIsReadByTheClockOfWhoSetIt(t *testing.T) {
	for _, off := range []time.Duration{0, 24 * time.Hour, -24 * time.Hour} { // of the cluster agent's clock
		t.Run(off.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := time.Now()
				clock := agent.NewClock(time.Time{}, agent.ClockSource{Synced: func() bool { return true }, Boot: func() time.Duration { return time.Since(up) }})
				b := newBench(t, t.TempDir(), Config{Clock: clock, Verbs: []Verb{&spy{name: "act", act: done}}})
				b.run()
				clock.Word(1, time.Now().Add(off))
				order := func(id string, left time.Duration) *api.Command {
					cmd := b.order(id, "act", nil)
					cmd.Issued, cmd.Deadline = api.At(time.Now().Add(off-time.Minute)), api.At(time.Now().Add(off+left))
					return cmd
				}
				b.handle(order("c1", time.Minute), order("c2", -time.Second))
				b.want("c1", api.PhaseSucceeded)
				b.want("c2", api.PhaseExpired)
			})
		})
	}
}

// A copy of a command whose id is forgotten must not run: neither when the clock has gone back before its deadline.
func TestAForgottenCommandDoesNotRunAgainWhenTheClockGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off atomic.Int64
		clock := wrongClock(&off)
		clock.Word(1, time.Now())
		b := newBench(t, t.TempDir(), Config{Clock: clock, Verbs: []Verb{&spy{name: "act", act: done}}})
		b.db.NoSync = true
		b.run()
		first := b.order("first", "act", nil)
		b.handle(first)
		b.want("first", api.PhaseSucceeded)
		b.Acked([]string{"first"})
		clock.Word(1, time.Now().Add(2*time.Hour)) // the cluster agent's clock is ahead
		for i := range remembered + 1 {
			id := fmt.Sprintf("c%d", i)
			b.handle(b.order(id, "act", nil))
			synctest.Wait()
			b.Acked([]string{id})
		}
		if _, known := b.journal.find("first"); known {
			t.Fatal("it is not forgotten, so that this test proves nothing")
		}
		off.Store(int64(-time.Hour))
		clock.Word(1, time.Now().Add(-time.Hour)) // a copy of an old word
		b.out.mu.Lock()
		b.out.all = nil // of the first time
		b.out.mu.Unlock()
		b.handle(first)
		b.want("first", api.PhaseExpired)
	})
}

func TestCommandsOfADayThatNeverCameDoNotFillTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off atomic.Int64
		clock := wrongClock(&off)
		b := newBench(t, t.TempDir(), Config{Clock: clock})
		b.db.NoSync = true
		if _, _, err := b.journal.load(); err != nil {
			t.Fatal(err)
		}
		clock.Word(1, time.Now().Add(24*time.Hour))
		off.Store(int64(24 * time.Hour))
		for i := range 2 * remembered {
			id := fmt.Sprintf("c%d", i)
			if err := end(t, b, id, ""); err != nil {
				t.Fatal(err)
			}
			b.journal.ack([]string{id})
		}
		off.Store(int64(0))
		clock.Word(2, time.Now())
		cmd := b.order("now", "act", nil)
		cmd.Epoch = 2
		for range 2 { // the first tells of the session
			if _, err := b.journal.keep(0, &record{Command: *cmd, Digest: "d"}, nil, clock.Cluster()); err != nil {
				t.Fatal(err)
			}
			cmd.ID = "now2"
		}
		if n := len(b.journal.order); n > remembered+2 {
			t.Errorf("%d are remembered; wanted about %d: those of the session before cannot come again", n, remembered)
		}
	})
}
