package cluster

import (
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// dropsOf reads what a node's outbox has given up off the newest row of its telemetry. ok is false when that is nothing, or
// when the batch is an old one. It costs nothing on the wire, while a node that says so in a birth says it once a session.
func dropsOf(b *api.Batch) (d api.Dropped, ok bool) {
	if b.Historical || len(b.Rows) == 0 {
		return d, false
	}
	values := b.Rows[len(b.Rows)-1].Values
	both := uint64(0)
	for i, name := range b.Series {
		rest, ours := strings.CutPrefix(name, "skerry_edge_d")
		if !ours || i >= len(values) || !(values[i] > 0) { // NaN is no value
			continue
		}
		n := uint64(values[i])
		switch rest {
		case "ropped_samples_total":
			d.Samples = n
		case "ropped_batches_total":
			d.Batches = n
		case "ropped_alarms_total":
			d.Alarms = n
		case "ropped_events_total": // with alarms
			both = n
		case "ownsampled_samples_total":
			d.Downsampled = n
		}
	}
	d.Events = both - min(d.Alarms, both)
	return d, d != api.Dropped{}
}
