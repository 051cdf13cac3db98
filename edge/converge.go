package edge

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/update"
)

// wish is the version that the desired document states (docs/adr/0024).
type wish struct {
	wake chan struct{} // it has changed

	mu     sync.Mutex
	want   *api.AgentWant // nil: none is stated
	status *api.AgentStatus
	state  string // empty: not known yet
	reason string
	judged bool               // state is about want, and not about the agent whatever is wanted
	stop   context.CancelFunc // ends an attempt at what was stated before; nil: there is none
}

// lookAgain is when to look whether a window has opened, or another's trial is over; beginAgain is the wait before a trial that is kept.
const lookAgain, beginAgain = time.Minute, time.Minute

// set takes what a desired document states.
func (w *wish) set(want *api.AgentWant) {
	w.mu.Lock()
	same := want == nil && w.want == nil || want != nil && w.want != nil && *want == *w.want
	w.want = want
	if !same && w.stop != nil {
		w.stop()
	}
	if !same && w.judged {
		w.state, w.reason = api.AgentWaiting, ""
	}
	w.tell()
	w.mu.Unlock()
	if same {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// begin has states be about what is stated from now on.
func (w *wish) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judged = true
}

// stands notes how the agent stands to what is stated, and has it reported.
func (w *wish) stands(a *Agent, state, reason string) {
	w.mu.Lock()
	w.state, w.reason = state, clip(reason)
	changed := w.tell()
	w.mu.Unlock()
	if changed {
		a.oweReport()
	}
}

// tell makes the status. Caller holds mu.
func (w *wish) tell() (changed bool) {
	was := w.status
	w.status = nil
	if w.want != nil && w.state != "" {
		w.status = &api.AgentStatus{Version: agent.Version(), Wanted: w.want.Version, Try: w.want.Try, State: w.state, Reason: w.reason}
	}
	return (was == nil) != (w.status == nil) || was != nil && *was != *w.status
}

func (w *wish) report() *api.AgentStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// attempt returns what is stated, and a context that ends when that changes.
func (w *wish) attempt(ctx context.Context) (*api.AgentWant, context.Context, context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, w.stop = context.WithCancel(ctx)
	return w.want, ctx, w.stop
}

// converge brings the agent to the version that the desired document states, as the verb agent.update does, again and again until it is
// there or the trial of that version failed.
func (u *updates) converge(ctx context.Context) error {
	u.wish.begin()
	vain, before := 0, uint64(0) // attempts in a row that did not come as far as a trial
	for ctx.Err() == nil {
		want, within, stop := u.wish.attempt(ctx)
		next := outlook{wait: -1}
		if want != nil {
			if want.Try != before {
				vain, before = 0, want.Try
			}
			if next = u.approach(within, want); next.link {
				_ = u.agent.line.AwaitUp(within) // or something else is stated
			}
		}
		changed := within.Err() != nil
		stop()
		if next.vain {
			vain++
			next.wait = update.Again(vain)
		}
		if !changed {
			u.wish.await(ctx, next.wait)
		}
	}
	return nil
}

// outlook says when to look at a wish again. A negative wait is for a change alone.
type outlook struct {
	wait time.Duration
	vain bool // an attempt came to nothing: after a wait that grows
	link bool // when there is a link
}

// await waits for a change of what is stated; a negative wait is one for that alone.
func (w *wish) await(ctx context.Context, wait time.Duration) {
	var due <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(agent.Jitter(wait, 0.1))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-w.wake:
	case <-due:
	}
}

// approach does what is due about want.
func (u *updates) approach(ctx context.Context, want *api.AgentWant) outlook {
	if u.alone(ctx) != nil { // a command was at work
		return outlook{}
	}
	defer func() { <-u.one }()
	a := u.agent
	s, err := u.self.State()
	if err != nil {
		u.wish.stands(a, api.AgentWaiting, err.Error())
		return outlook{vain: true}
	}
	c := s.Weigh(&update.Wish{AgentWant: *want, Running: agent.Version(), Past: u.failure(), Now: a.clock.Now(), Up: time.Since(a.started)})
	u.wish.stands(a, c.State, c.Reason)
	switch {
	case c.Failed:
		u.gaveUp(want, c.Reason)
		return outlook{wait: -1}
	case c.Restart:
		if err := u.self.Writable(); err != nil { // what kept it from its trial is not over: a restart would change nothing
			u.wish.stands(a, api.AgentWaiting, err.Error())
			return outlook{vain: true}
		}
		if agent.Wait(ctx, beginAgain) { // what kept it from its trial may be over by then
			_ = u.switchOver(ctx) // ctx ends with it
		}
		return outlook{}
	case c.Install && !a.line.up(): // a trial would only show that there is none
		u.wish.stands(a, api.AgentWaiting, "for a link; "+a.line.status().LastError)
		return outlook{link: true}
	case c.Install:
		return u.attempt(ctx, want)
	case c.Wait > 0:
		return outlook{wait: c.Wait}
	case c.State == api.AgentWaiting:
		return outlook{wait: lookAgain}
	}
	return outlook{wait: -1}
}

// attempt installs want, and begins its trial.
func (u *updates) attempt(ctx context.Context, want *api.AgentWant) outlook {
	a := u.agent
	w := update.Want{Version: want.Version, URL: want.URL, Force: want.Force, Command: update.WishID(want)}
	if v, err := release.ParseVersion(want.Version); err == nil { // else the refusal says what is wrong with it
		w.Version = v.String()
	}
	err := u.install(ctx, w, func(string) {})
	if ctx.Err() != nil {
		return outlook{}
	}
	if err == nil {
		u.wish.stands(a, api.AgentTrial, "")
		_ = u.switchOver(ctx) // ctx ends with it
		return outlook{}
	}
	a.log.Warn("desired version not reached", agent.KeyVersion, want.Version, agent.KeyErr, err)
	if errors.Is(err, update.ErrUnfit) {
		a.event(api.ClassAlarm, "update.failed", want.Version, clip(oneLine(err)))
		u.gaveUp(want, oneLine(err))
		return outlook{wait: -1}
	}
	u.wish.stands(a, api.AgentWaiting, oneLine(err))
	return outlook{vain: true}
}

// gaveUp keeps that a wish failed, so that no restart tries it again.
func (u *updates) gaveUp(want *api.AgentWant, reason string) {
	reason = clip(reason)
	if err := u.agent.store.SetUpdateFailure(update.Failure{Try: want.Try, Version: update.Plain(want.Version), Reason: reason}.Encode()); err != nil {
		u.agent.log.Warn("desired version not reached, which is not kept", agent.KeyVersion, want.Version, agent.KeyErr, err)
	}
	u.wish.stands(u.agent, api.AgentFailed, reason)
}

// failure is what is kept of the wish that failed last.
func (u *updates) failure() update.Failure {
	raw, err := u.agent.store.UpdateFailure()
	if err != nil {
		u.agent.log.Warn("desired version not reached", agent.KeyErr, err)
	}
	return update.DecodeFailure(raw)
}
