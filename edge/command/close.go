package command

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// stopGrace bounds how long a clean stop waits for interrupted actions to return.
const stopGrace = 5 * time.Second

// tick asks commands whose deadline has passed to end, closes those that were asked and did not, and returns when to
// look again.
func (e *Engine) tick() time.Duration {
	now, mono := e.cfg.Clock.Boot(), time.Now()
	next := longWait
	var due []*job
	e.mu.Lock()
	for _, j := range e.jobs {
		if j.closed {
			continue
		}
		if j.end == nil {
			left := j.due - now
			if left > 0 {
				next = min(next, left, recheck)
				continue
			}
			why := "not finished by its deadline"
			if what := e.waits(j); what != "" {
				why = "not begun by its deadline: " + what
			}
			e.askToEnd(j, &ending{api.PhaseTimedOut, why})
		}
		if wait := j.closing.Sub(mono); wait > 0 && j.placed {
			next = min(next, wait)
			continue
		}
		due = append(due, j)
	}
	e.mu.Unlock()
	for _, j := range due {
		e.closeAnyway(j)
	}
	return min(next, e.mendSoon(mono))
}

// askToEnd tells j's action to end. mu is held.
func (e *Engine) askToEnd(j *job, why *ending) {
	j.end, j.closing = why, time.Now().Add(e.cfg.Grace)
	if j.cancel != nil {
		j.cancel(why)
	}
}

// closeAnyway closes j, which was asked to end, although its action may still run, and gives its place to another as
// long as not too many actions have been left behind like that.
func (e *Engine) closeAnyway(j *job) {
	reason := j.end.reason
	if j.placed {
		reason = fmt.Sprintf("%s; still running %s after it was told to end", reason, e.cfg.Grace)
	}
	e.finish(j, e.status(j, j.end.phase, reason))
	e.mu.Lock()
	if j.placed && !j.freed && e.lane(j).active > 0 && e.abandoned.Load() < maxAbandoned {
		j.freed = true
		e.abandoned.Add(1)
		e.lane(j).active--
	}
	e.mu.Unlock()
	e.pump()
}

// stop lets what runs end, interrupts what does not, and joins it. What waits stays accepted in the journal.
func (e *Engine) stop() error {
	e.admission.Lock()
	e.mu.Lock()
	e.stopping = true
	e.mu.Unlock()
	e.admission.Unlock()

	e.await(e.cfg.Drain, func(j *job) bool { return !j.verb.Restart.causes() })
	e.mu.Lock()
	for _, j := range e.jobs {
		if j.placed && !j.closed && j.end == nil {
			e.askToEnd(j, &ending{api.PhaseInterrupted, "agent stopped while it ran"})
		}
	}
	e.mu.Unlock()
	stuck := e.await(min(e.cfg.Grace, stopGrace), func(*job) bool { return true })
	if len(stuck) == 0 && e.abandoned.Load() == 0 {
		e.work.Wait()
		return nil
	}
	var names []string
	for _, j := range stuck {
		names = append(names, j.cmd.Verb+" "+j.cmd.ID)
		e.interrupt(j)
	}
	slices.Sort(names)
	return fmt.Errorf("stop commands: still running: %s; and %d that were closed before",
		strings.Join(names, ", "), e.abandoned.Load())
}

// await waits up to limit for the running jobs that matter, and returns those left.
func (e *Engine) await(limit time.Duration, matter func(*job) bool) []*job {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		var left []*job
		e.mu.Lock()
		for _, j := range e.jobs {
			if j.placed && !j.closed && matter(j) {
				left = append(left, j)
			}
		}
		e.mu.Unlock()
		if len(left) == 0 {
			return nil
		}
		select {
		case <-timer.C:
			return left
		case <-e.wake: // an action returned
		}
	}
}
