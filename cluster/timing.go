package cluster

import (
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/cluster/telemetry"
)

// onStray tells that the machine's clock is off, and that it is no longer.
func (a *Agent) onStray(why string) {
	if why == "" {
		a.log.Info("machine's clock is followed again")
		a.note(api.ClassAlarm, "clock.wrong", "cluster", "cleared")
		return
	}
	a.log.Error("machine's clock is wrong", agent.KeyReason, why)
	a.note(api.ClassAlarm, "clock.wrong", "cluster", clip("raised: "+why))
}

// onStep has the nodes begin new sessions after the time was set. Each is told the time at its birth; within a session a
// node takes no time that goes back, because it might be a copy of what was said before.
func (a *Agent) onStep(by time.Duration) {
	a.log.Warn("time was set by the machine's clock", agent.KeyWait, by.String())
	a.note(api.ClassEvent, "clock.stepped", "cluster", fmt.Sprintf("the time was set by %s, as the machine's clock has it", by.Round(time.Second)))
	if _, embedded := a.wire.(*embedded); !embedded {
		return // nobody can end sessions of another broker: its nodes are told at their next
	}
	for _, n := range a.registry.Nodes(registry.Selector{}) {
		if a.registry.Connected(n.ID) {
			a.wire.Kick(n.ID)
		}
	}
}

// onReject tells of samples of a node that were acknowledged and are not stored.
func (a *Agent) onReject(node string, why telemetry.Reason, samples uint64) {
	if why != telemetry.ReasonFuture {
		return // counted, and told by describe
	}
	a.noteOf(node, api.ClassAlarm, "telemetry.rejected", string(why),
		fmt.Sprintf("%d samples are dropped: they are dated further ahead than telemetry may be; the node's clock is wrong", samples))
}

// rejected are the samples that a node's good batches lost, by reason; nil for none.
func (a *Agent) rejected(node string) map[string]uint64 {
	var out map[string]uint64
	for why, n := range a.telemetry.Rejected(node) {
		if out == nil {
			out = map[string]uint64{}
		}
		out[string(why)] = n
	}
	return out
}
