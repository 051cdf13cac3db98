package command

import (
	"context"
	"fmt"

	"github.com/skerry-edge/skerry/api"
)

// cancel is the engine's own verb: it asks another command to end.
type cancel struct{ engine *Engine }

type cancelArgs struct {
	ID string `json:"id"`
}

// Spec declares the verb. Cancelling twice does no harm.
func (*cancel) Spec() Spec {
	return Spec{
		Verb: api.Verb{
			Name: "cancel", Help: "Ask a command that waits or runs to end.", Role: api.RoleOperator,
			Args: api.Schema{
				Type: "object", Required: []string{"id"}, AdditionalProperties: new(false),
				Properties: map[string]api.Schema{
					"id": {Type: "string", Description: "of the command", MaxLength: api.MaxIDLength,
						Pattern: "^[a-z0-9][a-z0-9.-]*$"},
				},
			},
		},
		Restart: Retry, Urgent: true,
	}
}

// Prepare reads the arguments.
func (c *cancel) Prepare(args map[string]any) (Action, error) {
	in, err := Decode[cancelArgs](args)
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, job *Job) (Outcome, error) {
		phase, err := c.engine.cancel(in.ID, job.Command)
		if err != nil {
			return Outcome{}, err
		}
		return Outcome{Result: map[string]any{"id": in.ID, "phase": phase}}, nil
	}, nil
}

// cancel asks the command id to end and returns the phase it is in then: cancelled when it only waited, running when
// its verb has been told. It is closed as cancelled after the grace period even if the verb does not listen.
func (e *Engine) cancel(id string, by *api.Command) (api.Phase, error) {
	if id == by.ID {
		return "", fmt.Errorf("command %s cannot cancel itself", id)
	}
	e.mu.Lock()
	j := e.jobs[id]
	if j == nil || j.closed {
		e.mu.Unlock()
		if known, ok := e.journal.find(id); ok {
			return "", fmt.Errorf("command %s has ended already: %s", id, known.phase)
		}
		return "", fmt.Errorf("command %s is unknown", id)
	}
	if j.end == nil {
		e.askToEnd(j, &ending{api.PhaseCancelled, "cancelled by " + by.By + " with command " + by.ID})
	}
	waits, why := !j.placed, j.end
	e.mu.Unlock()
	if !waits {
		e.nudge()
		return api.PhaseRunning, nil
	}
	e.finish(j, e.status(j, why.phase, why.reason))
	return why.phase, nil
}
