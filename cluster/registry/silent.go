package registry

import (
	"slices"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// muteAtLeast is the least time without telemetry that counts.
const muteAtLeast = 2 * time.Minute

// OnTelemetry notes that node sent a batch.
func (r *Registry) OnTelemetry(id string, at time.Time) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if n := r.nodes[id]; n != nil {
		raise(&n.measured, at)
	}
}

// Silent lists the nodes that are online and have sent no telemetry for several of their intervals, in order.
func (r *Registry) Silent(now time.Time) (out []string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for id, n := range r.nodes {
		if n.removed || n.row.Standing.Presence != api.PresenceOnline || n.facts.Interval <= 0 || !r.self.Broker {
			continue
		}
		since := latest(latest(n.row.Standing.Since.Time(), r.self.BrokerAt), time.UnixMilli(n.measured.Load()))
		if now.Sub(since) > max(muteAtLeast, silentIntervals*n.facts.Interval) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}
