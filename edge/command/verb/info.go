package verb

import (
	"context"
	"errors"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// Info describes the node as its birth does, at this moment.
type Info struct {
	describe func(context.Context) (map[string]any, error)
}

// NewInfo returns the verb info, which shows what describe returns.
func NewInfo(describe func(context.Context) (map[string]any, error)) (*Info, error) {
	if describe == nil {
		return nil, errors.New("verb info: wanted a description of the node")
	}
	return &Info{describe}, nil
}

// Spec declares the verb.
func (*Info) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "info", Role: api.RoleViewer, Safe: true, Args: object(nil),
			Help: "Describe the node: identity, version, hardware, probes, certificate, backlog."},
		Restart: command.Retry, Urgent: true,
	}
}

// Prepare has nothing to read.
func (i *Info) Prepare(map[string]any) (command.Action, error) {
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) {
		result, err := i.describe(ctx)
		return command.Outcome{Result: result}, err
	}, nil
}
