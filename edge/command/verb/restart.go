package verb

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// AgentRestart restarts the agent. The command has succeeded once the agent is back.
type AgentRestart struct{ restart func(context.Context) error }

// NewAgentRestart returns the verb agent.restart. restart begins an orderly stop, after which the service manager or
// the agent itself starts anew, and returns.
func NewAgentRestart(restart func(context.Context) error) (*AgentRestart, error) {
	if restart == nil {
		return nil, errors.New("verb agent.restart: wanted a way to restart")
	}
	return &AgentRestart{restart}, nil
}

// Spec declares the verb.
func (*AgentRestart) Spec() command.Spec {
	return command.Spec{
		Verb:    api.Verb{Name: "agent.restart", Role: api.RoleAdmin, Args: object(nil), Help: "Restart the node agent."},
		Restart: command.ByRestart, Urgent: true,
	}
}

// Prepare has nothing to read.
func (a *AgentRestart) Prepare(map[string]any) (command.Action, error) {
	return untilGone(a.restart), nil
}

// Reboot reboots the machine. The command has succeeded once the agent is back under another boot id.
type Reboot struct {
	reboot  func(context.Context) error
	allowed atomic.Bool
}

// NewReboot returns the verb reboot. reboot asks the machine to reboot and returns. It is never called while the
// configuration does not allow it.
func NewReboot(allowed bool, reboot func(context.Context) error) (*Reboot, error) {
	if reboot == nil {
		return nil, errors.New("verb reboot: wanted a way to reboot")
	}
	r := &Reboot{reboot: reboot}
	r.Allow(allowed)
	return r, nil
}

// Allow sets whether the node may be rebooted.
func (r *Reboot) Allow(allowed bool) { r.allowed.Store(allowed) }

// Spec declares the verb.
func (*Reboot) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "reboot", Role: api.RoleAdmin, Args: object(nil),
			Help: "Reboot the machine; needs allow_reboot on the node."},
		Restart: command.ByNewBoot, Urgent: true,
	}
}

// Prepare checks the permission.
func (r *Reboot) Prepare(map[string]any) (command.Action, error) {
	if !r.allowed.Load() {
		return nil, errors.New("reboot is not permitted on this node; wanted allow_reboot: true in its configuration")
	}
	return untilGone(r.reboot), nil
}

// untilGone calls do and waits for the end that it brings. When the end does not come, the deadline does.
func untilGone(do func(context.Context) error) command.Action {
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) {
		if err := do(ctx); err != nil {
			return command.Outcome{}, err
		}
		<-ctx.Done()
		return command.Outcome{}, context.Cause(ctx)
	}
}
