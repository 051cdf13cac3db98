package swarm

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// verb is a handler of the profile. It is shared by all nodes; its side effect is a count in the log of commands.
type verb struct {
	Handler
	effects *account.Commands
}

// errProfile is how a handler fails.
var errProfile = errors.New("the profile says so")

// Spec declares it. Arguments are read by nobody.
func (v *verb) Spec() command.Spec {
	s := command.Spec{Verb: api.Verb{Name: v.Verb, Role: api.RoleOperator, Help: "Do nothing for a while, and count it.",
		Args: api.Schema{Type: "object", Properties: map[string]api.Schema{}}}, Restart: command.Fail}
	if v.Retry {
		s.Restart = command.Retry
	}
	return s
}

// Prepare has nothing to check.
func (v *verb) Prepare(map[string]any) (command.Action, error) {
	return func(ctx context.Context, job *command.Job) (command.Outcome, error) {
		v.effects.Effect(job.Command.ID) // before the wait, as a real side effect is before its end is known
		wait := time.Duration(float64(v.Duration) * (0.5 + rand.Float64()))
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return command.Outcome{}, context.Cause(ctx)
		case <-timer.C:
		}
		if rand.Float64() < v.Fail {
			return command.Outcome{}, errProfile
		}
		return command.Outcome{Output: "done"}, nil
	}, nil
}
