package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

const (
	// recheck bounds the wait for a deadline: timers stand still while the device is suspended.
	recheck = 15 * time.Second
	// longWait is the loop's wait when nothing is open.
	longWait = time.Hour
	// progressEvery is the least time between two progress texts of a command.
	progressEvery = time.Second
	// maxAbandoned bounds the actions that ignore their end and still do not hold a place.
	maxAbandoned = 16
)

// job is an open command.
type job struct {
	cmd    *api.Command
	verb   *known
	number uint64        // in the journal
	due    time.Duration // the deadline, by the boot clock: no step of any other clock moves it

	write sync.Mutex // held while its record is written; guards rec and begun
	rec   *record
	begun bool // it was told that its action begins

	// Engine.mu guards the rest.
	phase    api.Phase
	placed   bool                    // left the queue; its action runs or ran
	freed    bool                    // its place was given away although its action runs
	end      *ending                 // why it was asked to end
	closing  time.Time               // when it is closed although its action runs; set with end
	closed   bool                    // its end is decided
	cancel   context.CancelCauseFunc // set with placed
	reported time.Time
}

// ending is why a command was asked to end, and the cause of its context.
type ending struct {
	phase  api.Phase
	reason string
}

func (e *ending) Error() string { return e.reason }

// dueAt is the deadline of a command by the boot clock. It is stated in the cluster agent's time, and judged in it, once. A
// node that is told a wrong one would wait too long: no command lives longer than from its issue to its deadline.
func (e *Engine) dueAt(cmd *api.Command) time.Duration {
	left := cmd.Deadline.Time().Sub(e.cfg.Clock.Cluster())
	life := time.Duration(cmd.Deadline-cmd.Issued) * time.Millisecond
	return e.cfg.Clock.Boot() + min(left, life)
}

// status makes the next status of j.
func (e *Engine) status(j *job, phase api.Phase, reason string) api.Status {
	return api.Status{ID: j.cmd.ID, Phase: phase, Epoch: j.cmd.Epoch, At: api.At(e.cfg.Clock.Now()),
		Reason: clip(reason, api.MaxReasonBytes)}
}

// enqueue makes j wait for a place. The caller has journalled it.
func (e *Engine) enqueue(j *job) {
	e.mu.Lock()
	e.jobs[j.cmd.ID] = j
	l := e.lane(j)
	l.queue = append(l.queue, j)
	e.mu.Unlock()
	e.nudge()
}

// pump starts what has a place.
func (e *Engine) pump() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.lanes {
		l, places := &e.lanes[i], e.cfg.Concurrency
		if i == 2 {
			places = conversations
		}
		for !e.stopping && len(l.queue) > 0 && l.active < places {
			j := l.queue[0]
			l.queue = l.queue[1:]
			if j.end != nil { // whoever asked it to end closes it
				continue
			}
			l.active++
			ctx, cancel := context.WithCancelCause(context.Background())
			j.placed, j.cancel = true, cancel
			e.work.Go(func() { e.perform(ctx, j) })
		}
	}
}

// errEnded says that a command was asked to end before its action began.
var errEnded = errors.New("ended before it began")

// perform runs j's action and closes j.
func (e *Engine) perform(ctx context.Context, j *job) {
	out, err := e.act(ctx, j)
	if st := e.conclude(ctx, j, out, err); st.Phase == api.PhaseInterrupted {
		e.interrupt(j)
	} else {
		e.finish(j, st)
	}
	j.cancel(nil)
	e.release(j)
	e.nudge()
	e.pump()
}

// act prepares, journals and does what j asks.
func (e *Engine) act(ctx context.Context, j *job) (Outcome, error) {
	action, err := j.verb.verb.Prepare(j.cmd.Args)
	if err != nil {
		return Outcome{}, fmt.Errorf("%w: %w", ErrRejected, err)
	}
	if err := e.begin(j); err != nil {
		return Outcome{}, err
	}
	if ctx.Err() != nil {
		return Outcome{}, context.Cause(ctx)
	}
	job := NewJob(j.cmd, func(text string) { e.progress(j, text) })
	j.write.Lock()
	job.Attempts = j.rec.Attempts
	j.write.Unlock()
	return action(ctx, job)
}

// begin journals that j's effect may happen from now on. Of a verb that may be done twice the journal need not know.
func (e *Engine) begin(j *job) error {
	j.write.Lock()
	defer j.write.Unlock()
	st := e.status(j, api.PhaseRunning, "")
	e.mu.Lock()
	if j.closed || j.end != nil {
		e.mu.Unlock()
		return errEnded
	}
	j.phase = api.PhaseRunning
	e.mu.Unlock()
	if j.verb.Safe {
		return nil
	}
	if !j.verb.Restart.again() {
		rec := *j.rec
		rec.Status, rec.Boot, rec.Agent = st, e.cfg.BootID, e.agent
		if _, err := e.journal.keep(j.number, &rec, nil, e.cfg.Clock.Cluster()); err != nil {
			return fmt.Errorf("%w: %w", ErrRejected, err)
		}
		j.rec = &rec
	}
	j.begun = true
	e.sender.pass(&st)
	return nil
}

func (e *Engine) progress(j *job, text string) {
	now := time.Now()
	e.mu.Lock()
	skip := j.closed || now.Sub(j.reported) < progressEvery
	if !skip {
		j.reported = now
	}
	e.mu.Unlock()
	if skip {
		return
	}
	st := e.status(j, api.PhaseRunning, "")
	st.Progress = clip(text, api.MaxReasonBytes)
	e.sender.pass(&st)
}

// conclude makes the status of an action that returned.
func (e *Engine) conclude(ctx context.Context, j *job, out Outcome, err error) api.Status {
	var why *ending
	st := e.status(j, api.PhaseSucceeded, out.Reason)
	switch {
	case err == nil:
	case errors.Is(err, ErrRejected):
		st = e.status(j, api.PhaseRejected, strings.TrimPrefix(err.Error(), ErrRejected.Error()+": ")) // the phase says that much
	case errors.As(context.Cause(ctx), &why):
		st = e.status(j, why.phase, why.reason)
	default:
		st = e.status(j, api.PhaseFailed, err.Error())
	}
	st.Exit, st.Output, st.Truncated, st.Result = out.Exit, out.Output, out.Truncated, out.Result
	return st
}

// finish closes j with st, unless it is closed already.
func (e *Engine) finish(j *job, st api.Status) {
	if !e.decide(j, st.Phase) {
		return
	}
	fit(&st)
	var err error
	j.write.Lock()
	rec := *j.rec
	begun := j.begun || rec.Status.Phase != api.PhaseAccepted // in this life or an earlier one
	loose := j.loose()                                        // is journalled when it is not acknowledged soon
	if !loose {
		_, err = e.journal.keep(j.number, &rec, &st, e.cfg.Clock.Cluster())
	}
	j.write.Unlock()
	e.mu.Lock()
	if loose || err != nil {
		rec.Status = slim(st)
		e.loosen(&looseEnd{number: j.number, safe: loose, begun: begun, rec: &rec, status: &st, cause: err})
	}
	delete(e.jobs, j.cmd.ID)
	e.mu.Unlock()
	e.tell(j, &st, err)
	e.sender.final(j.cmd.ID)
}

// loose reports whether the end of j lives in memory until it is acknowledged: j is safe and the journal does not know
// it.
func (j *job) loose() bool { return j.verb != nil && j.verb.Safe && j.number == 0 }

// decide makes the caller the one who closes j.
func (e *Engine) decide(j *job, phase api.Phase) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if j.closed || !j.phase.CanBecome(phase) {
		return false
	}
	j.closed, j.phase = true, phase
	if !j.placed {
		for i := range e.lanes {
			e.lanes[i].queue = slices.DeleteFunc(e.lanes[i].queue, func(q *job) bool { return q == j })
		}
	}
	return true
}

// tell logs the end of a command; those that only read are no news. Its reason may quote what somebody typed, and is for
// whoever asked: it is in the status, not in the log.
func (e *Engine) tell(j *job, st *api.Status, err error) {
	what := []any{agent.KeyCommand, st.ID, agent.KeyVerb, j.cmd.Verb, agent.KeyBy, j.cmd.By, agent.KeyState, st.Phase}
	switch {
	case err != nil:
		e.cfg.Log.Error("command closed, but not journalled", append(what, agent.KeyErr, err)...)
	case j.verb != nil && j.verb.Role == api.RoleViewer:
		e.cfg.Log.Debug("command closed", what...)
	default:
		e.cfg.Log.Info("command closed", what...)
	}
}

// interrupt leaves j to the next life of the agent. What ends by a restart stays running in the journal.
func (e *Engine) interrupt(j *job) {
	if !e.decide(j, api.PhaseInterrupted) {
		return
	}
	if j.verb.Restart.causes() {
		return
	}
	st := e.status(j, api.PhaseInterrupted, "agent stopped while it ran")
	j.write.Lock()
	defer j.write.Unlock()
	rec := *j.rec
	rec.Status = st
	if _, err := e.journal.keep(j.number, &rec, nil, e.cfg.Clock.Cluster()); err != nil {
		e.tell(j, &st, err) // the journal still says running, which leads to the same end
	}
	e.sender.pass(&st)
}

// release gives j's place back.
func (e *Engine) release(j *job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if j.freed {
		e.abandoned.Add(-1)
		return
	}
	e.lane(j).active--
}
