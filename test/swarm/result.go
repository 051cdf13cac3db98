package swarm

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Result is what a run came to.
type Result struct {
	Figures
	IngestP50    Seconds         `json:"ingestP50"` // from the PUBLISH to its PUBACK
	IngestP99    Seconds         `json:"ingestP99"`
	AckP50       Seconds         `json:"ackP50"` // from the PUBLISH to the cluster agent's word that it is on disk
	AckP99       Seconds         `json:"ackP99"`
	BytesPerNode int64           `json:"bytesPerNode"` // growth of this process's RSS, divided by the nodes
	Steps        []Span          `json:"steps"`
	Account      *account.Report `json:"account,omitempty"`
	Error        string          `json:"error,omitempty"`
}

// Result is how things stand.
func (p *Player) Result() *Result {
	st := &p.Swarm.stats
	r := &Result{Figures: p.Swarm.Figures(), IngestP50: Seconds(st.ingest.Quantile(0.5)), IngestP99: Seconds(st.ingest.Quantile(0.99)),
		AckP50: Seconds(st.ack.Quantile(0.5)), AckP99: Seconds(st.ack.Quantile(0.99))}
	r.BytesPerNode = r.PerNode()
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Steps, r.Account = slices.Clone(p.spans), p.report
	return r
}

// Write writes r as JSON, or as a table of at most a hundred columns.
func (r *Result) Write(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
	row("WHAT", "RESULT")
	row("nodes", "%d online of %d started", r.Online, r.Started)
	row("samples", "%d made, %d acknowledged", r.Made, r.Acked)
	row("given up", "%d samples, %d down-sampled, %d events", r.Dropped.Samples, r.Dropped.Downsampled, r.Dropped.Events+r.Dropped.Alarms)
	row("backlog", "%d batches, %d bytes; oldest %s", r.Backlog, r.Bytes, r.Lag)
	row("ingest latency", "p50 %s, p99 %s (to the PUBACK)", r.IngestP50, r.IngestP99)
	row("end-to-end ack", "p50 %s, p99 %s (to \"it is on disk\")", r.AckP50, r.AckP99)
	row("connections", "%d tried, %d reconnects", r.Attempts, r.Reconnects)
	row("disturbances", "%d resets, %d goodbyes, %d sleeps", r.Resets, r.Leaves, r.Sleeps)
	row("wire", "%d bytes to the nodes, %d from them", r.BytesIn, r.BytesOut)
	row("commands", "%d on nodes, %d side effects", r.Commands, r.Effects)
	row("memory", "RSS %.0f MiB (%.0f without nodes)%s; %d goroutines", float64(r.RSSBytes)/(1<<20), float64(r.BaseBytes)/(1<<20),
		r.each(), r.Goroutines)
	for _, s := range r.Steps {
		text := s.Took.String()
		if s.Error != "" {
			text += ": " + clip(s.Error, 50)
		}
		row("  "+clip(s.Step, 28), "%s", text)
	}
	if a := r.Account; a != nil {
		row("account of", "%v", a.Views)
		row("  commands", "%d ordered, %d ended late", a.Orders, a.Late)
		for _, phase := range slices.Sorted(maps.Keys(a.Ends)) {
			row("    "+string(phase), "%d", a.Ends[phase])
		}
		row("  samples", "%d made, %d stored, %d missing, %d reported", a.Samples.Made, a.Samples.Stored, a.Samples.Missing, a.Samples.Reported)
		row("  violations", "%d", a.Total)
		for _, v := range a.Violations[:min(10, len(a.Violations))] {
			row("    "+v.Check, "%s %s", v.Object, clip(v.Detail, 50))
		}
	}
	if r.Error != "" {
		row("ended by", "%s", clip(r.Error, 62))
	}
	return t.Flush()
}

// clip shortens a text for a table.
func clip(s string, n int) string {
	r := []rune(s)
	for i := range r {
		if r[i] < ' ' {
			r[i] = ' '
		}
	}
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n-1]) + "…"
}
