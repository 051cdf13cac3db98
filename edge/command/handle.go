package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// ErrMisaddressed is wrapped by Handle's error about a command that can never be this node's: it is not answered.
var ErrMisaddressed = errors.New("command is not for this node")

// errStopping is Handle's answer during a stop: the command was not taken and should come again.
var errStopping = errors.New("command not taken: agent is stopping")

// Handle takes a command whose signature has been verified. Once it returns nil the command is in the journal, or safe
// and running, or its refusal is on its way: the message may be acknowledged to the broker. Otherwise the command was not taken.
func (e *Engine) Handle(ctx context.Context, cmd *api.Command) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("handle command: %w", ctx.Err())
	case <-e.ready:
	}
	if err := cmd.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrMisaddressed, err)
	}
	if cmd.Node != e.cfg.Node {
		return fmt.Errorf("%w: it is for %s", ErrMisaddressed, cmd.Node)
	}
	sum, err := digest(cmd)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMisaddressed, err)
	}
	e.admission.Lock()
	defer e.admission.Unlock()
	e.mu.Lock()
	stopping := e.stopping
	e.mu.Unlock()
	if stopping {
		return errStopping
	}
	if e.answered(cmd, sum) {
		return nil
	}
	if e.cfg.Clock.Told(cmd.Epoch) { // moves it forwards; a command, which may be late, is no session's first word
		e.cfg.Clock.Word(cmd.Epoch, cmd.Issued.Time())
	}
	j := &job{cmd: cmd, verb: e.verbs[cmd.Verb], phase: api.PhaseDelivered}
	j.due = e.dueAt(cmd)
	j.rec = &record{Command: *cmd, Digest: sum}
	if phase, reason := e.judge(j); phase != api.PhaseAccepted {
		e.refuse(j, phase, reason)
		return nil
	}
	return e.admit(j)
}

// answered answers a command that came before with the status it has.
func (e *Engine) answered(cmd *api.Command, sum string) bool {
	e.mu.Lock()
	loose, open := e.loose[cmd.ID], e.jobs[cmd.ID]
	e.mu.Unlock()
	known, ok := e.journal.find(cmd.ID)
	if !ok && loose == nil && open == nil { // one that is open, and safe, is in neither
		return false
	}
	first := known.digest
	switch {
	case loose != nil:
		first = loose.rec.Digest
	case !ok:
		first = open.rec.Digest
	}
	if first != sum {
		e.cfg.Log.Warn("command id used twice", agent.KeyCommand, cmd.ID, agent.KeyVerb, cmd.Verb, agent.KeyBy, cmd.By)
		if loose == nil && known.acked {
			st := e.status(&job{cmd: cmd}, api.PhaseRejected, "id was used before for another command; wanted a new one")
			e.sender.pass(&st)
			return true
		}
		// The end of the first is still owed: a rejection now would be taken for it.
	}
	switch {
	case open != nil:
		st := e.current(open)
		e.sender.pass(&st)
	case loose != nil && loose.held():
		e.sender.pass(loose.waiting())
	default:
		e.sender.final(cmd.ID)
	}
	return true
}

// current is the status of an open command.
func (e *Engine) current(j *job) api.Status {
	e.mu.Lock()
	phase := j.phase
	if j.closed { // its end is being written and will be sent once it is
		phase = api.PhaseRunning
	}
	why := e.waits(j)
	e.mu.Unlock()
	st := e.status(j, phase, "")
	st.Progress = clip(why, api.MaxReasonBytes)
	return st
}

// judge decides whether a new command is accepted.
func (e *Engine) judge(j *job) (api.Phase, string) {
	if j.due <= e.cfg.Clock.Boot() {
		deadline := j.cmd.Deadline.Time().Format(time.RFC3339)
		return api.PhaseExpired, "deadline " + deadline + " had passed when it arrived"
	}
	if j.verb == nil {
		return api.PhaseRejected, fmt.Sprintf("verb %q is unknown; wanted %s", j.cmd.Verb, e.verbNames())
	}
	if err := j.verb.args.check(j.cmd.Args); err != nil {
		return api.PhaseRejected, strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	if _, err := j.verb.verb.Prepare(j.cmd.Args); err != nil {
		return api.PhaseRejected, err.Error()
	}
	ordered := j.cmd.Created
	if ordered == 0 {
		ordered = j.cmd.Issued
	}
	if !j.verb.Restart.again() && e.cfg.Forgot(ordered.Time()) {
		return api.PhaseFailed, "the journal of commands was damaged after this one was ordered; whether it was done is unknown"
	}
	e.mu.Lock()
	l := e.lane(j)
	waiting, busy := len(l.queue), l.active+len(l.queue)
	e.mu.Unlock()
	switch {
	case j.converses() && busy >= conversations: // somebody sits there: told rather than kept waiting
		e.busy.Add(1)
		return api.PhaseRejected, fmt.Sprintf("busy: %d followed logs and other conversations are open already; end one", busy)
	case waiting >= e.cfg.QueueLen:
		e.busy.Add(1)
		return api.PhaseRejected, fmt.Sprintf("busy: %d commands wait already", e.cfg.QueueLen)
	}
	return api.PhaseAccepted, ""
}

func (e *Engine) verbNames() string {
	names := make([]string, 0, len(e.list))
	for _, v := range e.list {
		names = append(names, v.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// refuse closes a command that was never accepted.
func (e *Engine) refuse(j *job, phase api.Phase, reason string) {
	st := e.status(j, phase, reason)
	fit(&st)
	_, err := e.journal.keep(0, j.rec, &st, e.cfg.Clock.Cluster())
	if err != nil {
		j.rec.Status = slim(st)
		e.mu.Lock()
		e.loosen(&looseEnd{rec: j.rec, status: &st, cause: err})
		e.mu.Unlock()
	}
	e.tell(j, &st, err)
	e.sender.final(st.ID)
}

// admit journals j as accepted and lets it run. What is safe runs at once: its end is all that is told, and all that is
// kept, and a crash before that has it delivered again.
func (e *Engine) admit(j *job) error {
	if j.verb.Safe {
		j.phase = api.PhaseAccepted
		e.line(j)
		return nil
	}
	st := e.status(j, api.PhaseAccepted, "")
	j.rec.Status = st
	number, err := e.journal.keep(0, j.rec, nil, e.cfg.Clock.Cluster())
	if err != nil {
		e.refuse(j, api.PhaseRejected, err.Error())
		return nil
	}
	j.number, j.phase = number, api.PhaseAccepted
	e.sender.pass(&st)
	e.line(j)
	return nil
}

// line lets j run, or wait and say so.
func (e *Engine) line(j *job) {
	e.enqueue(j)
	e.pump()
	e.tellWait(j)
}

// Acked takes the ids of commands whose final status the cluster agent has stored.
func (e *Engine) Acked(ids []string) {
	select {
	case <-e.ready:
	default:
		return // what is owed is sent again, and acknowledged again
	}
	e.mu.Lock()
	for _, id := range ids {
		if l := e.loose[id]; l != nil {
			l.acked = true
			if l.safe && !l.held() {
				delete(e.loose, id)
			}
		}
	}
	e.mu.Unlock()
	e.journal.ack(ids)
}

// Resend sends where every open command stands, and every final status that is owed. For each connect.
func (e *Engine) Resend(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-e.ready:
	}
	e.mu.Lock()
	open := make([]*job, 0, len(e.jobs))
	for _, j := range e.jobs {
		open = append(open, j)
	}
	e.mu.Unlock()
	for _, j := range open {
		st := e.current(j)
		e.sender.pass(&st)
	}
	e.sendOwed()
}

// sendOwed queues the final statuses that are not acknowledged.
func (e *Engine) sendOwed() {
	e.mu.Lock()
	for id, l := range e.loose {
		switch {
		case l.held():
			e.sender.pass(l.waiting())
		case !l.acked:
			e.sender.final(id)
		}
	}
	e.mu.Unlock()
	for _, id := range e.journal.owed() {
		e.sender.final(id)
	}
}

// final returns the final status of id as it is stored, nil when there is none any more or it may not be told yet.
func (e *Engine) final(id string) (*api.Status, error) {
	e.mu.Lock()
	l := e.loose[id]
	e.mu.Unlock()
	switch {
	case l != nil && l.held():
		return nil, nil
	case l != nil:
		return l.status, nil
	}
	st, err := e.journal.status(id)
	if err != nil || st == nil || !st.Phase.Final() {
		return nil, err
	}
	return st, nil
}

// Open lists the commands that have no final phase yet that may be told, at most api.MaxOpenCommands, for the node's birth.
func (e *Engine) Open() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	ids := make([]string, 0, len(e.jobs))
	for id := range e.jobs {
		ids = append(ids, id)
	}
	for id, l := range e.loose {
		if l.held() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids[:min(len(ids), api.MaxOpenCommands)]
}
