package verb

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// maxPayload is what a ping carries to and fro, in characters and in bytes.
const maxPayload = 1 << 10

// Ping answers.
type Ping struct {
	clock   *agent.Clock
	started time.Time
}

// NewPing returns the verb ping. The agent's uptime counts from now.
func NewPing(clock *agent.Clock) *Ping { return &Ping{clock, time.Now()} }

type pingArgs struct {
	Payload string `json:"payload"`
}

// Spec declares the verb.
func (*Ping) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "ping", Role: api.RoleViewer, Safe: true, Help: "Answer with the payload, the node's time and its uptime.",
			Args: object(map[string]api.Schema{
				"payload": {Type: "string", Description: "is sent back", MaxLength: maxPayload},
			})},
		Restart: command.Retry, Urgent: true,
	}
}

// Prepare reads the arguments.
func (p *Ping) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[pingArgs](args)
	if err != nil {
		return nil, err
	}
	if len(in.Payload) > maxPayload {
		return nil, fmt.Errorf("args.payload has %d bytes; wanted at most %d", len(in.Payload), maxPayload)
	}
	return func(context.Context, *command.Job) (command.Outcome, error) {
		now, quality := p.clock.Read()
		result := map[string]any{
			"at": api.At(now), "timeQuality": quality,
			"nodeUptimeSeconds":  p.clock.Boot().Seconds(),
			"agentUptimeSeconds": time.Since(p.started).Seconds(),
		}
		if in.Payload != "" {
			result["payload"] = in.Payload
		}
		return command.Outcome{Result: result}, nil
	}, nil
}
