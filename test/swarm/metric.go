package swarm

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// metrics are what a step can assert.
func metrics() map[string]func(r *Result) float64 {
	seconds := func(s Seconds) float64 { return time.Duration(s).Seconds() }
	return map[string]func(r *Result) float64{
		"online_share": func(r *Result) float64 { return float64(r.Online) / float64(max(1, r.Started)) },
		"samples_made": func(r *Result) float64 { return float64(r.Made) }, "samples_acked": func(r *Result) float64 { return float64(r.Acked) },
		"samples_dropped":    func(r *Result) float64 { return float64(r.Dropped.Samples + r.Dropped.Downsampled) },
		"backlog_batches":    func(r *Result) float64 { return float64(r.Backlog) },
		"reconnects":         func(r *Result) float64 { return float64(r.Reconnects) },
		"side_effects":       func(r *Result) float64 { return float64(r.Effects) },
		"ingest_p99_seconds": func(r *Result) float64 { return seconds(r.IngestP99) }, "ack_p99_seconds": func(r *Result) float64 { return seconds(r.AckP99) },
		"bytes_per_node": func(r *Result) float64 { return float64(r.BytesPerNode) },
		"violations": func(r *Result) float64 {
			if r.Account == nil {
				return 0
			}
			return float64(r.Account.Total)
		},
	}
}

// Metrics lists what a step can assert.
func Metrics() []string { return slices.Sorted(maps.Keys(metrics())) }

func (p *Player) assert(step Step) error {
	r := p.Result()
	v := metrics()[step.Metric](r)
	ok := map[string]bool{">=": v >= step.Value, "<=": v <= step.Value, "==": v == step.Value}[step.Op]
	if !ok {
		return fmt.Errorf("%s is %g; wanted %s %g", step.Metric, v, step.Op, step.Value)
	}
	return nil
}
