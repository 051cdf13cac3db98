package command

import (
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// maxAttempts bounds how often a command is begun: one that takes the agent down with it would do so for ever. A verb that resumes
// bounds itself.
const maxAttempts = 3

// recover settles what the journal says was open when the last life of the agent ended.
func (e *Engine) recover() error {
	open, damaged, err := e.journal.load()
	if err != nil {
		return err
	}
	if damaged > 0 {
		e.cfg.Log.Error("command journal had damaged records; they are removed", agent.KeyCount, damaged)
		if e.cfg.OnDamage != nil {
			e.cfg.OnDamage(damaged)
		}
	}
	for _, s := range open {
		e.settle(s)
	}
	return nil
}

// settle closes a command of the last life, or lets it run again.
func (e *Engine) settle(s stored) {
	j := &job{cmd: &s.Command, verb: e.verbs[s.Command.Verb], number: s.number, phase: s.Status.Phase, rec: s.record, due: e.dueAt(&s.Command)}
	if j.verb != nil {
		if c, ok := j.verb.verb.(Cleaner); ok {
			if err := c.Clean(j.cmd.ID, j.cmd.Args); err != nil {
				e.cfg.Log.Warn("command left something behind",
					agent.KeyCommand, j.cmd.ID, agent.KeyVerb, j.cmd.Verb, agent.KeyErr, err)
			}
		}
	}
	phase, reason := e.fate(j, e.cfg.Clock.Cluster())
	if phase.Final() {
		e.finish(j, e.status(j, phase, reason))
		return
	}
	rec := *j.rec
	rec.Status = e.status(j, api.PhaseInterrupted, reason)
	rec.Attempts++
	if _, err := e.journal.keep(j.number, &rec, nil, e.cfg.Clock.Cluster()); err != nil {
		e.finish(j, e.status(j, api.PhaseFailed, err.Error()))
		return
	}
	j.rec, j.phase = &rec, api.PhaseInterrupted
	st := rec.Status
	e.sender.pass(&st)
	e.enqueue(j)
}

// fate decides what becomes of a command after a restart: a final phase, or interrupted when it is to run again.
func (e *Engine) fate(j *job, now time.Time) (api.Phase, string) {
	deadline := j.cmd.Deadline.Time()
	what := "agent restarted while it ran; what it did is unknown"
	switch {
	case j.verb != nil && j.verb.Restart.again():
		what = "agent restarted while it ran"
	case j.rec.Agent == "":
		what = "agent restarted before it ran; nothing was done"
	case j.verb != nil && j.verb.Restart == ByRestart:
		what = "agent restarted"
	case j.verb != nil && j.verb.Restart == ByNewBoot && j.rec.Boot != e.cfg.BootID:
		what = "machine rebooted"
	case j.verb != nil && j.verb.Restart == ByNewBoot:
		what = "agent restarted, but the machine did not: its boot id is still " + e.cfg.BootID
	}
	switch {
	case now.After(deadline.Add(e.cfg.Grace)):
		return api.PhaseTimedOut, what + "; its deadline passed meanwhile"
	case j.verb == nil:
		return api.PhaseFailed, fmt.Sprintf("%s; this version has no verb %q", what, j.cmd.Verb)
	case j.verb.Restart.again():
		return e.again(j, now, what)
	case j.rec.Agent != "" && (j.verb.Restart == ByRestart || j.verb.Restart == ByNewBoot && j.rec.Boot != e.cfg.BootID):
		return api.PhaseSucceeded, what
	}
	return api.PhaseFailed, what
}

// again decides whether a command that may run twice does.
func (e *Engine) again(j *job, now time.Time, what string) (api.Phase, string) {
	switch {
	case !now.Before(j.cmd.Deadline.Time()):
		return api.PhaseTimedOut, what + "; its deadline passed meanwhile"
	case j.verb.Stream && j.cmd.Args["stream"] != nil:
		return api.PhaseFailed, what + "; its stream is gone"
	case j.verb.Restart == Retry && j.rec.Attempts+1 >= maxAttempts:
		return api.PhaseFailed, fmt.Sprintf("%s, %d times by now", what, j.rec.Attempts+1)
	}
	return api.PhaseInterrupted, what
}
