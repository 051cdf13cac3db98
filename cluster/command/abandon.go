package command

import (
	"fmt"
	"maps"
	"slices"

	"github.com/skerry-edge/skerry/api"
)

// Abandon ends every open command of node as cancelled, for reason: the device they were meant for is gone, and one that
// comes under its id later must not be given its orders. It is on disk when Abandon returns nil.
func (j *Journal) Abandon(node, reason string) error {
	j.mu.Lock()
	ids := slices.Collect(maps.Keys(j.byNode[node]))
	j.mu.Unlock()
	now := api.At(j.cfg.Now())
	for _, id := range ids {
		_, _, err := j.change(id, func(e *entry) effect {
			if e.Final {
				return ignored
			}
			e.step(api.Transition{Phase: api.PhaseCancelled, At: now, Side: sideCluster, Reason: reason}, now)
			return advanced
		})
		if err != nil {
			return fmt.Errorf("abandon command %s of node %s: %w", id, node, err)
		}
	}
	return nil
}
