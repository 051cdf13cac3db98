package workload

import (
	"slices"

	"github.com/skerry-edge/skerry/api"
)

// again tells whether a container that has ended is started again.
func again(policy api.RestartPolicy, first bool, end *api.Termination) bool {
	switch policy {
	case api.RestartNever:
		return false
	case api.RestartOnFailure:
		return end.Exit != 0
	}
	return !first || end.Exit != 0
}

// done tells whether nothing of the workload is ever started again.
func (d *decision) done() bool {
	ended := func(first bool) func(c api.Container) bool {
		return func(c api.Container) bool {
			p := d.mem.Containers[c.Name]
			return p.End != nil && !p.Stale && !again(d.Want.Restart, first, p.End)
		}
	}
	for i := range d.Want.Init {
		if p := d.mem.Containers[d.Want.Init[i].Name]; p.End != nil && !p.Stale && p.End.Exit != 0 && !again(d.Want.Restart, true, p.End) {
			return true
		}
	}
	return !slices.ContainsFunc(d.Want.Containers, func(c api.Container) bool { return !ended(false)(c) })
}
