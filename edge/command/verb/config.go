package verb

import (
	"context"
	"errors"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// ConfigSet changes the configuration while the agent runs.
type ConfigSet struct {
	apply func(context.Context, *api.Command, map[string]any) (map[string]any, error)
}

// NewConfigSet returns the verb config.set. apply validates the patch of a command and applies all of it or nothing,
// before the command's deadline; its error wraps command.ErrRejected when the patch is at fault. It returns what to show.
func NewConfigSet(apply func(context.Context, *api.Command, map[string]any) (map[string]any, error)) (*ConfigSet, error) {
	if apply == nil {
		return nil, errors.New("verb config.set: wanted a configuration to change")
	}
	return &ConfigSet{apply}, nil
}

type configArgs struct {
	Patch map[string]any `json:"patch"`
}

// Spec declares the verb.
func (*ConfigSet) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "config.set", Role: api.RoleAdmin,
			Help: "Change the configuration without a restart; it is taken back when the node cannot reconnect with it.",
			Args: object(map[string]api.Schema{
				"patch": {Type: "object", Description: "settings in the form of edge.yaml; null removes one"},
			}, "patch")},
		Restart: command.Retry, // what a restart interrupted is found out
	}
}

// Prepare reads the arguments.
func (c *ConfigSet) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[configArgs](args)
	if err != nil {
		return nil, err
	}
	if len(in.Patch) == 0 {
		return nil, errors.New("args.patch is empty; wanted settings to change")
	}
	return func(ctx context.Context, job *command.Job) (command.Outcome, error) {
		result, err := c.apply(ctx, job.Command, in.Patch)
		return command.Outcome{Result: result}, err
	}, nil
}
