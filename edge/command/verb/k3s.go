package verb

import (
	"context"
	"errors"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// K3s is what the verbs k3s.join and k3s.leave act on.
type K3s interface {
	// Join returns when the machine is a k3s agent.
	Join(ctx context.Context, j *api.K3sJoin) error
	Leave(ctx context.Context) error
}

// errNoK3s is for a device whose owner has not allowed it.
var errNoK3s = errors.New("k3s is not permitted on this node; wanted k3s.allow: true in its configuration")

// NewK3s returns the verbs k3s.join and k3s.leave. k is not used while allowed is false.
func NewK3s(allowed bool, k K3s) []command.Verb {
	join := k3sVerb{api.VerbK3sJoin, "Join the cluster agent's k3s cluster as a real node; the token is made and sealed by the cluster agent.", object(map[string]api.Schema{
		"server": {Type: "string", Description: "https URL of a k3s server as this device reaches it; the cluster agent knows one as a rule", MaxLength: 512},
		"name":   {Type: "string", Description: "of the node; set by the cluster agent", MaxLength: 253},
		"sealed": {Type: "object", Description: "the token; set by the cluster agent"},
	}), func(args map[string]any) (func(context.Context) error, error) {
		in, err := command.Decode[api.K3sJoin](args)
		if err == nil {
			err = in.Validate()
		}
		return func(ctx context.Context) error { return k.Join(ctx, &in) }, err
	}, allowed}
	leave := k3sVerb{api.VerbK3sLeave, "Leave the k3s cluster: k3s is stopped and its credentials are removed.", object(nil),
		func(map[string]any) (func(context.Context) error, error) { return k.Leave, nil }, allowed}
	return []command.Verb{join, leave}
}

type k3sVerb struct {
	name, help string
	args       api.Schema
	prepare    func(map[string]any) (func(context.Context) error, error)
	allowed    bool
}

// Spec declares the verb. Both do no harm when they are done again.
func (v k3sVerb) Spec() command.Spec {
	return command.Spec{Verb: api.Verb{Name: v.name, Role: api.RoleAdmin, Args: v.args, Help: v.help}, Restart: command.Retry}
}

// Prepare checks the permission and reads the arguments.
func (v k3sVerb) Prepare(args map[string]any) (command.Action, error) {
	if !v.allowed {
		return nil, errNoK3s
	}
	do, err := v.prepare(args)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) { return command.Outcome{}, do(ctx) }, nil
}
