package command

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// leave writes a journal as a killed agent would leave it: one command in phase.
func leave(t *testing.T, b *bench, cmd *api.Command, phase api.Phase, attempts int) {
	t.Helper()
	if _, _, err := b.journal.load(); err != nil {
		t.Fatal(err)
	}
	r := &record{Command: *cmd, Digest: "d", Status: api.Status{ID: cmd.ID, Phase: phase, Epoch: 1, At: cmd.Issued}, Attempts: attempts}
	if phase == api.PhaseRunning || phase == api.PhaseInterrupted {
		r.Boot, r.Agent = "boot-1", "life-1"
	}
	if _, err := b.journal.keep(0, r, nil, b.cfg.Clock.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestARestartSettlesWhatWasOpen(t *testing.T) {
	stream := map[string]any{"stream": "s1"}
	for _, c := range []struct {
		name     string
		restart  Restart
		phase    api.Phase
		boot     string // of the new life
		args     map[string]any
		attempts int
		late     time.Duration // after the issue; the deadline is an hour
		wanted   api.Phase
		reason   string
	}{
		{"careful, accepted", Fail, api.PhaseAccepted, "boot-1", nil, 0, 0, api.PhaseFailed, "nothing was done"},
		{"careful, running", Fail, api.PhaseRunning, "boot-1", nil, 0, 0, api.PhaseFailed, "agent restarted while it ran"},
		{"careful, interrupted", Fail, api.PhaseInterrupted, "boot-1", nil, 0, 0, api.PhaseFailed, "agent restarted while it ran"},
		{"careful, long ago", Fail, api.PhaseRunning, "boot-1", nil, 0, 2 * time.Hour, api.PhaseTimedOut, "deadline passed"},
		{"repeatable, accepted", Retry, api.PhaseAccepted, "boot-1", nil, 0, 0, api.PhaseSucceeded, ""},
		{"repeatable, interrupted", Retry, api.PhaseInterrupted, "boot-1", nil, 1, 0, api.PhaseSucceeded, ""},
		{"repeatable, deadline passed", Retry, api.PhaseAccepted, "boot-1", nil, 0, time.Hour, api.PhaseTimedOut, "deadline passed"},
		{"repeatable, third time", Retry, api.PhaseAccepted, "boot-1", nil, 2, 0, api.PhaseFailed, "3 times"},
		{"repeatable, with a stream", Retry, api.PhaseAccepted, "boot-1", stream, 0, 0, api.PhaseFailed, "stream is gone"},
		{"resuming, accepted", Resume, api.PhaseAccepted, "boot-1", nil, 0, 0, api.PhaseSucceeded, ""},
		{"resuming, eighth time", Resume, api.PhaseInterrupted, "boot-2", nil, 7, 0, api.PhaseSucceeded, ""},
		{"resuming, deadline passed", Resume, api.PhaseAccepted, "boot-1", nil, 0, time.Hour, api.PhaseTimedOut, "deadline passed"},
		{"restart, running", ByRestart, api.PhaseRunning, "boot-1", nil, 0, 0, api.PhaseSucceeded, "agent restarted"},
		{"restart, accepted", ByRestart, api.PhaseAccepted, "boot-1", nil, 0, 0, api.PhaseFailed, "nothing was done"},
		{"reboot, new boot", ByNewBoot, api.PhaseRunning, "boot-2", nil, 0, 0, api.PhaseSucceeded, "machine rebooted"},
		{"reboot, same boot", ByNewBoot, api.PhaseRunning, "boot-1", nil, 0, 0, api.PhaseFailed, "boot id is still boot-1"},
		{"reboot, accepted only", ByNewBoot, api.PhaseAccepted, "boot-2", nil, 0, 0, api.PhaseFailed, "nothing was done"},
		{"reboot, took too long", ByNewBoot, api.PhaseRunning, "boot-2", nil, 0, 2 * time.Hour, api.PhaseTimedOut, "machine rebooted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &spy{name: "act", restart: c.restart, act: done}
				b := newBench(t, t.TempDir(), Config{BootID: c.boot, Verbs: []Verb{v}})
				leave(t, b, b.order("c1", "act", c.args), c.phase, c.attempts)
				pass(t, c.late)
				b.run()
				if s := b.want("c1", c.wanted); !strings.Contains(s.Reason, c.reason) {
					t.Errorf("reason %q; wanted %q in it", s.Reason, c.reason)
				}
				if !slices.Equal(v.cleaned, []string{"c1"}) {
					t.Errorf("cleaned %v", v.cleaned)
				}
				ran := slices.Contains(b.out.phases("c1"), api.PhaseRunning)
				if again := c.wanted == api.PhaseSucceeded && c.restart.again(); ran != again {
					t.Errorf("ran %v; sent %v", ran, b.out.phases("c1"))
				}
			})
		})
	}
}

// TestACommandThatALostJournalMayHaveKnownIsNotDoneAgain has a command come again that was ordered before the journal began.
func TestACommandThatALostJournalMayHaveKnownIsNotDoneAgain(t *testing.T) {
	began := time.Time{}
	done := map[string]int{}
	act := func(_ context.Context, j *Job) (Outcome, error) { done[j.Command.ID]++; return Outcome{}, nil }
	cfg := Config{Forgot: func(issued time.Time) bool { return issued.Before(began) },
		Verbs: []Verb{&spy{name: "careful", act: act}, &spy{name: "restart", restart: ByRestart, act: act}, &spy{name: "again", restart: Retry, act: act}}}
	bubble(t, cfg, func(t *testing.T, b *bench) {
		old := []*api.Command{b.order("c1", "careful", nil), b.order("c2", "restart", nil), b.order("c3", "again", nil)}
		pass(t, time.Second)
		began = b.cfg.Clock.Now()
		again := api.At(began.Add(time.Second)) // each delivery is signed anew
		for _, cmd := range old {
			cmd.Created, cmd.Issued = cmd.Issued, again
		}
		b.handle(append(old, b.order("c4", "careful", nil))...)
		for _, id := range []string{"c1", "c2"} {
			if s := b.want(id, api.PhaseFailed); !strings.Contains(s.Reason, "whether it was done is unknown") || done[id] > 0 {
				t.Errorf("%s: reason %q, done %d times", id, s.Reason, done[id])
			}
		}
		b.want("c3", api.PhaseSucceeded)
		b.want("c4", api.PhaseSucceeded)
	})
}

func TestAVerbThatIsGoneFailsItsCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, t.TempDir(), Config{})
		leave(t, b, b.order("c1", "dance", nil), api.PhaseRunning, 0)
		b.run()
		if s := b.want("c1", api.PhaseFailed); !strings.Contains(s.Reason, `no verb "dance"`) {
			t.Errorf("reason %q", s.Reason)
		}
	})
}

// A clean stop: what ends soon ends, what does not is interrupted and settled by the next life, what waits is kept.
func TestACleanStopInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		brief := func(ctx context.Context, _ *Job) (Outcome, error) {
			select {
			case <-ctx.Done():
				return Outcome{}, ctx.Err()
			case <-time.After(time.Second):
				return Outcome{}, nil
			}
		}
		verbs := func(act Action) []Verb {
			return []Verb{&spy{name: "brief", act: brief}, &spy{name: "careful", act: act}, &spy{name: "again", restart: Retry, act: act},
				&spy{name: "restart", restart: ByRestart, act: act, urgent: true}}
		}
		b := newBench(t, dir, Config{Concurrency: 3, Verbs: verbs(untilTold)})
		b.run()
		b.handle(b.order("c1", "brief", nil), b.order("c2", "careful", nil), b.order("c3", "again", nil), b.order("c4", "restart", nil),
			b.order("c5", "careful", nil))
		b.want("c3", api.PhaseRunning)
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.want("c1", api.PhaseSucceeded)
		b.want("c2", api.PhaseInterrupted)
		b.want("c3", api.PhaseInterrupted)
		b.want("c4", api.PhaseRunning)
		b.want("c5", api.PhaseAccepted)
		if err := b.Handle(t.Context(), b.order("c6", "brief", nil)); !errors.Is(err, errStopping) {
			t.Errorf("handle after the stop: %v", err)
		}
		if err := b.db.Close(); err != nil {
			t.Fatal(err)
		}
		b2 := newBench(t, dir, Config{Verbs: verbs(done)})
		b2.run()
		b2.Resend(t.Context())            // connected
		b2.want("c1", api.PhaseSucceeded) // still owed
		b2.want("c2", api.PhaseFailed)
		b2.want("c3", api.PhaseSucceeded)
		b2.want("c4", api.PhaseSucceeded)
		b2.want("c5", api.PhaseFailed)
	})
}

func TestAStopNamesWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		ignore := func(context.Context, *Job) (Outcome, error) { <-stuck; return Outcome{}, nil }
		b := newBench(t, t.TempDir(), Config{Verbs: []Verb{&spy{name: "stuck", act: ignore}}})
		b.run()
		b.handle(b.order("c1", "stuck", nil))
		b.want("c1", api.PhaseRunning)
		if err := b.stop(); err == nil || !strings.Contains(err.Error(), "stuck c1") {
			t.Errorf("error %v; wanted it to name the verb and the command", err)
		}
		close(stuck)
		b.want("c1", api.PhaseInterrupted)
	})
}
