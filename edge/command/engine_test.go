package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func allPhases() []api.Phase {
	return []api.Phase{api.PhaseQueued, api.PhaseDelivered, api.PhaseAccepted, api.PhaseRunning, api.PhaseInterrupted, api.PhaseSucceeded,
		api.PhaseFailed, api.PhaseRejected, api.PhaseCancelled, api.PhaseTimedOut, api.PhaseExpired, "bogus"}
}

// Every pair of phases: what is illegal changes nothing, in memory or in the journal, and is not sent.
func TestIllegalTransitionsAreRefused(t *testing.T) {
	for _, from := range allPhases()[:len(allPhases())-1] { // no journal record is bogus: its decoder refuses
		for _, to := range allPhases() {
			legal := map[api.Phase]int{api.PhaseQueued: 1, api.PhaseDelivered: 2, api.PhaseAccepted: 3, api.PhaseRunning: 4, api.PhaseInterrupted: 5}
			rank, open := legal[from]
			next, ok := legal[to]
			if !ok {
				next = 9
			}
			wanted := open && to != "bogus" && (next > rank || from == api.PhaseInterrupted && to == api.PhaseRunning)
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				b := newBench(t, t.TempDir(), Config{Verbs: []Verb{&spy{name: "act", act: done}}})
				if _, _, err := b.journal.load(); err != nil {
					t.Fatal(err)
				}
				cmd := b.order("c1", "act", nil)
				j := &job{cmd: cmd, verb: b.verbs["act"], phase: from, rec: &record{Command: *cmd, Digest: "d"}}
				if got := b.decide(j, to); got != wanted {
					t.Fatalf("decided %v; wanted %v", got, wanted)
				}
				if !wanted && j.phase != from {
					t.Errorf("phase became %s by an illegal transition", j.phase)
				}
				if b.decide(j, api.PhaseFailed) && wanted {
					t.Error("a closed command was closed once more")
				}
			})
		}
	}
}

func TestACommandRunsThroughItsLife(t *testing.T) {
	release := make(chan struct{})
	act := func(context.Context, *Job) (Outcome, error) {
		<-release
		return Outcome{Output: "ok", Exit: new(0), Result: map[string]any{"n": 1.0}}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		b := newBench(t, t.TempDir(), Config{Verbs: []Verb{&spy{name: "act", act: act}}})
		b.run()
		b.handle(b.order("c1", "act", nil))
		b.want("c1", api.PhaseRunning)
		if got := b.Open(); !slices.Equal(got, []string{"c1"}) {
			t.Errorf("open %v", got)
		}
		close(release)
		s := b.want("c1", api.PhaseSucceeded)
		if s.Output != "ok" || s.Exit == nil || *s.Exit != 0 || s.Result["n"] != 1.0 {
			t.Errorf("status %+v", s)
		}
		if got := b.out.phases("c1"); !slices.Equal(got, []api.Phase{api.PhaseAccepted, api.PhaseRunning, api.PhaseSucceeded}) {
			t.Errorf("phases %v", got)
		}
		if len(b.Open()) != 0 {
			t.Errorf("open %v", b.Open())
		}
	})
}

func TestADuplicateIsAnsweredFromTheJournal(t *testing.T) {
	var ran atomic.Int32
	act := func(context.Context, *Job) (Outcome, error) {
		ran.Add(1)
		return Outcome{Output: "once"}, nil
	}
	bubble(t, Config{Verbs: []Verb{&spy{name: "act", act: act}}}, func(t *testing.T, b *bench) {
		cmd := b.order("c1", "act", map[string]any{"a": 1.0})
		b.handle(cmd)
		b.want("c1", api.PhaseSucceeded)
		again := *cmd
		again.Epoch, again.Claim = 7, &api.Claim{Term: 3, Owner: "b"} // signed anew for a later session, by another cluster agent
		b.handle(&again)
		if s := b.want("c1", api.PhaseSucceeded); s.Output != "once" {
			t.Errorf("the stored status lost its output: %+v", s)
		}
		b.Acked([]string{"c1"})
		b.handle(&again)
		b.want("c1", api.PhaseSucceeded)
		if n := len(b.out.phases("c1")); n != 5 {
			t.Errorf("sent %v; wanted the life and two answers", b.out.phases("c1"))
		}
		if ran.Load() != 1 {
			t.Errorf("ran %d times", ran.Load())
		}
	})
}

func TestAnIDUsedTwiceNeverRunsTheSecond(t *testing.T) {
	var ran atomic.Int32
	act := func(context.Context, *Job) (Outcome, error) {
		ran.Add(1)
		return Outcome{}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, t.TempDir(), Config{Verbs: []Verb{&spy{name: "act", act: act}}})
		b.run()
		b.handle(b.order("c1", "act", map[string]any{"a": 1.0}))
		b.want("c1", api.PhaseSucceeded)
		other := b.order("c1", "act", map[string]any{"a": 2.0})
		b.handle(other)
		b.want("c1", api.PhaseSucceeded) // the first is still owed: its end is what counts
		b.Acked([]string{"c1"})
		b.out.mu.Lock()
		b.out.all = nil // another life of the cluster agent
		b.out.mu.Unlock()
		b.handle(other)
		b.want("c1", api.PhaseRejected)
		if ran.Load() != 1 {
			t.Errorf("ran %d times", ran.Load())
		}
	})
}

func TestWhatCannotRunIsRejectedWithItsReason(t *testing.T) {
	verbs := []Verb{
		&spy{name: "act", act: done, args: api.Schema{Type: "object", Required: []string{"n"}, AdditionalProperties: new(false),
			Properties: map[string]api.Schema{"n": {Type: "integer", Minimum: new(1.0)}}}},
		&spy{name: "locked", act: done, prepare: func(map[string]any) error { return errors.New("not permitted here") }},
		&spy{name: "picky", act: func(context.Context, *Job) (Outcome, error) {
			return Outcome{}, fmt.Errorf("%w: bad patch", ErrRejected)
		}},
	}
	for _, c := range []struct {
		name, verb string
		args       map[string]any
		reason     string
	}{
		{"unknown verb", "dance", nil, `verb "dance" is unknown; wanted act, cancel, locked, picky`},
		{"argument missing", "act", nil, "args.n is missing"},
		{"wrong type", "act", map[string]any{"n": "5"}, `args.n is "5"; wanted integer`},
		{"unknown argument", "act", map[string]any{"n": 1.0, "m": 1.0}, "args.m is unknown; wanted n"},
		{"two faults", "act", map[string]any{"n": 0.0, "m": 1.0}, "args.m is unknown; wanted n; args.n is 0; wanted at least 1"},
		{"no permission", "locked", nil, "not permitted here"},
		{"refused by the verb", "picky", nil, "bad patch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, Config{Verbs: verbs}, func(t *testing.T, b *bench) {
				b.handle(b.order("c1", c.verb, c.args))
				if s := b.want("c1", api.PhaseRejected); !strings.Contains(s.Reason, c.reason) {
					t.Errorf("reason %q; wanted %q in it", s.Reason, c.reason)
				}
			})
		})
	}
}

func TestACommandOfAnotherNodeIsNotTaken(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, b *bench) {
		cmd := b.order("c1", "cancel", map[string]any{"id": "x"})
		cmd.Node = "n2"
		if err := b.Handle(t.Context(), cmd); !errors.Is(err, ErrMisaddressed) {
			t.Errorf("error %v; wanted ErrMisaddressed", err)
		}
		synctest.Wait()
		if len(b.out.phases("c1")) != 0 {
			t.Error("it was answered")
		}
	})
}

func TestALateCommandExpiresUnstarted(t *testing.T) {
	ran := false
	act := func(context.Context, *Job) (Outcome, error) { ran = true; return Outcome{}, nil }
	bubble(t, Config{Verbs: []Verb{&spy{name: "act", act: act}}}, func(t *testing.T, b *bench) {
		cmd := b.order("c1", "act", nil)
		pass(t, time.Hour)
		b.handle(cmd)
		b.want("c1", api.PhaseExpired)
		if ran {
			t.Error("it ran")
		}
	})
}

func TestTheDeadlineEndsWhatListens(t *testing.T) {
	bubble(t, Config{Verbs: []Verb{&spy{name: "act", act: untilTold}}}, func(t *testing.T, b *bench) {
		b.handle(b.order("c1", "act", nil))
		pass(t, time.Hour-time.Millisecond)
		b.want("c1", api.PhaseRunning)
		pass(t, time.Millisecond)
		b.want("c1", api.PhaseTimedOut)
	})
}

func TestTheDeadlineClosesWhatIgnoresIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		ignore := func(context.Context, *Job) (Outcome, error) {
			<-stuck
			return Outcome{Output: "too late"}, nil
		}
		b := newBench(t, t.TempDir(), Config{Concurrency: 1, Grace: 10 * time.Second, Verbs: []Verb{
			&spy{name: "stuck", act: ignore}, &spy{name: "act", act: done}}})
		b.run()
		first := b.order("c1", "stuck", nil)
		b.handle(first, b.order("c2", "act", nil))
		pass(t, time.Hour)
		b.want("c1", api.PhaseRunning)
		b.want("c2", api.PhaseTimedOut) // it waited behind the first
		pass(t, 10*time.Second)
		b.want("c1", api.PhaseTimedOut)
		if n := b.Counts().Abandoned; n != 1 {
			t.Errorf("%d abandoned", n)
		}
		b.handle(b.order("c3", "act", nil))
		b.want("c3", api.PhaseSucceeded) // the place was given away
		close(stuck)
		b.want("c1", api.PhaseTimedOut)
		if n := b.Counts().Abandoned; n != 0 {
			t.Errorf("%d abandoned after it returned", n)
		}
	})
}

// A node whose clock is an hour behind must not keep a command an hour too long.
func TestNoCommandLivesLongerThanItWasGiven(t *testing.T) {
	bubble(t, Config{Verbs: []Verb{&spy{name: "act", act: untilTold}}}, func(t *testing.T, b *bench) {
		cmd := b.order("c1", "act", nil)
		cmd.Issued += api.Millis(time.Hour.Milliseconds())
		cmd.Deadline = cmd.Issued + api.Millis(time.Minute.Milliseconds())
		b.handle(cmd)
		b.want("c1", api.PhaseRunning)
		pass(t, time.Minute)
		b.want("c1", api.PhaseTimedOut)
	})
}

func TestCancelEndsWhatWaitsAndWhatRuns(t *testing.T) {
	bubble(t, Config{Concurrency: 1, Verbs: []Verb{&spy{name: "act", act: untilTold}}}, func(t *testing.T, b *bench) {
		b.handle(b.order("c1", "act", nil), b.order("c2", "act", nil))
		b.handle(b.order("x2", "cancel", map[string]any{"id": "c2"}))
		b.want("c2", api.PhaseCancelled)
		if slices.Contains(b.out.phases("c2"), api.PhaseRunning) {
			t.Error("what only waited has run")
		}
		if s := b.want("x2", api.PhaseSucceeded); s.Result["phase"] != "cancelled" {
			t.Errorf("result %v", s.Result)
		}
		b.handle(b.order("x1", "cancel", map[string]any{"id": "c1"}))
		if s := b.want("c1", api.PhaseCancelled); !strings.Contains(s.Reason, "ann") {
			t.Errorf("reason %q does not say by whom", s.Reason)
		}
		b.want("x1", api.PhaseSucceeded)
		for id, target := range map[string]string{"x3": "c1", "x4": "nobody", "x5": "x5"} {
			b.handle(b.order(id, "cancel", map[string]any{"id": target}))
			b.want(id, api.PhaseFailed)
		}
	})
}

func TestCancelClosesWhatIgnoresIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		ignore := func(context.Context, *Job) (Outcome, error) { <-stuck; return Outcome{}, nil }
		b := newBench(t, t.TempDir(), Config{Verbs: []Verb{&spy{name: "stuck", act: ignore}}})
		b.run()
		b.handle(b.order("c1", "stuck", nil))
		b.want("c1", api.PhaseRunning)
		b.handle(b.order("x1", "cancel", map[string]any{"id": "c1"}))
		b.want("c1", api.PhaseRunning)
		pass(t, 10*time.Second)
		b.want("c1", api.PhaseCancelled)
		close(stuck)
	})
}

func TestAFullQueueRejects(t *testing.T) {
	bubble(t, Config{Concurrency: 1, QueueLen: 2, Verbs: []Verb{&spy{name: "act", act: untilTold}, &spy{name: "urgent", act: done, urgent: true}}},
		func(t *testing.T, b *bench) {
			for i := range 4 {
				b.handle(b.order(fmt.Sprintf("c%d", i), "act", nil))
			}
			if s := b.want("c3", api.PhaseRejected); !strings.Contains(s.Reason, "busy") {
				t.Errorf("reason %q", s.Reason)
			}
			if n := b.Counts().Busy; n != 1 {
				t.Errorf("counted %d", n)
			}
			b.handle(b.order("u", "urgent", nil))
			b.want("u", api.PhaseSucceeded)
		})
}

func TestProgressIsSentOnceASecond(t *testing.T) {
	act := func(ctx context.Context, job *Job) (Outcome, error) {
		for i := range 100 {
			job.Progress(fmt.Sprint(i))
			select {
			case <-ctx.Done():
				return Outcome{}, ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		}
		return Outcome{}, nil
	}
	bubble(t, Config{Verbs: []Verb{&spy{name: "act", act: act}}}, func(t *testing.T, b *bench) {
		b.handle(b.order("c1", "act", nil))
		pass(t, time.Minute)
		b.want("c1", api.PhaseSucceeded)
		b.out.mu.Lock()
		defer b.out.mu.Unlock()
		n := 0
		for _, s := range b.out.all {
			if s.Progress != "" {
				n++
			}
		}
		if n < 9 || n > 10 {
			t.Errorf("%d progress texts in 10 s", n)
		}
	})
}

func TestAFinalStatusIsSentUntilItIsAcknowledged(t *testing.T) {
	bubble(t, Config{ResendEvery: time.Minute, Verbs: []Verb{&spy{name: "act", act: done}}}, func(t *testing.T, b *bench) {
		b.out.setDown(true)
		b.handle(b.order("c1", "act", nil))
		pass(t, 5*time.Minute)
		if got := b.out.phases("c1"); len(got) != 0 {
			t.Fatalf("sent %v over a link that is down", got)
		}
		b.out.setDown(false)
		b.Resend(t.Context())
		b.want("c1", api.PhaseSucceeded)
		pass(t, 150*time.Second)
		if n := len(b.out.phases("c1")); n < 3 {
			t.Errorf("sent %d times; wanted once for the connect and twice since", n)
		}
		b.Acked([]string{"c1", "nobody"})
		before := len(b.out.phases("c1"))
		pass(t, 10*time.Minute)
		b.Resend(t.Context())
		synctest.Wait()
		if n := len(b.out.phases("c1")); n != before {
			t.Errorf("sent %d times more after the ack", n-before)
		}
		if n := b.Counts().Owed; n != 0 {
			t.Errorf("%d owed", n)
		}
	})
}
