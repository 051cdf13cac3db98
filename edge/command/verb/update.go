package verb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// UpdateArgs say to which version an agent is to go.
type UpdateArgs struct {
	Version string `json:"version"`
	URL     string `json:"url,omitempty"`
	Force   bool   `json:"force,omitempty"`
	Window  string `json:"window,omitempty"`
}

// AgentUpdate replaces the program of the agent. The command goes on after the restarts that this takes, and ends when the new program
// has shown its health, or the one before is back.
type AgentUpdate struct {
	update func(context.Context, *command.Job, UpdateArgs) (command.Outcome, error)
}

// NewAgentUpdate returns the verb agent.update. update is called anew after each restart until it returns the end; while a
// restart is under way it waits for ctx.
func NewAgentUpdate(update func(context.Context, *command.Job, UpdateArgs) (command.Outcome, error)) (*AgentUpdate, error) {
	if update == nil {
		return nil, errors.New("verb agent.update: wanted a way to update")
	}
	return &AgentUpdate{update}, nil
}

// Spec declares the verb.
func (*AgentUpdate) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "agent.update", Role: api.RoleAdmin,
			Help: "Update the node agent to a release; the version before comes back when the new one does not show its health.",
			Args: object(map[string]api.Schema{
				"version": {Type: "string", Description: "of the release, such as 1.4.0", MaxLength: release.MaxNameBytes},
				"url":     {Type: "string", Description: "of a release server in place of the cluster agent", MaxLength: 1024},
				"force":   {Type: "boolean", Description: "also when the version is not newer"},
				"window":  {Type: "string", Description: "when it may begin, in UTC, as 22:00-04:00; until then it waits", MaxLength: api.MaxLabelBytes},
			}, "version")},
		Restart: command.Resume,
	}
}

// Prepare reads the arguments.
func (u *AgentUpdate) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[UpdateArgs](args)
	if err != nil {
		return nil, err
	}
	v, err := release.ParseVersion(in.Version)
	if err != nil {
		return nil, fmt.Errorf("args.version: %w", err)
	}
	in.Version = v.String()
	if in.URL != "" {
		if at, err := url.Parse(in.URL); err != nil || at.Scheme != "https" && at.Scheme != "http" || at.Host == "" || at.RawQuery != "" || at.Fragment != "" {
			return nil, fmt.Errorf("args.url %.80q: wanted https://host/path", in.URL)
		}
	}
	if _, err := (&api.AgentWant{Window: in.Window}).Opens(time.Time{}); err != nil {
		return nil, fmt.Errorf("args.%w", err)
	}
	return func(ctx context.Context, job *command.Job) (command.Outcome, error) { return u.update(ctx, job, in) }, nil
}
