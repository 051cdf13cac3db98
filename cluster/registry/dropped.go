package registry

import "github.com/skerry-edge/skerry/api"

// OnDropped brings the drops in a node's birth up to date, from telemetry of the same session. They are not written to
// disk: after a restart every node is born again. A node that is not known is left alone.
func (r *Registry) OnDropped(id string, epoch uint64, d api.Dropped) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.find(id)
	if err != nil || n.birth == nil || n.birth.Epoch != epoch || n.birth.Backlog.Dropped == d {
		return
	}
	was := n.birth.Backlog.Dropped
	birth := *n.birth // which others read
	birth.Backlog.Dropped = api.Dropped{Alarms: max(was.Alarms, d.Alarms), Events: max(was.Events, d.Events), Batches: max(was.Batches, d.Batches),
		Samples: max(was.Samples, d.Samples), Downsampled: max(was.Downsampled, d.Downsampled)}
	n.birth = &birth
}
