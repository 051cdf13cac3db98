package scale

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// field is the value of a line "name : value" of a text; empty without one.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Row is a line of the table: one figure beside its budget. A row without a budget only informs.
type Row struct {
	What     string   `json:"what"`
	Measured float64  `json:"measured"`
	Unit     string   `json:"unit"`
	Budget   *float64 `json:"budget,omitempty"`
	OK       bool     `json:"ok"`
	Note     string   `json:"note,omitempty"`
}

func fact(what string, v float64, unit string) Row {
	return Row{What: what, Measured: v, Unit: unit, OK: true}
}

func atMost(what string, v, budget float64, unit string) Row {
	return Row{What: what, Measured: v, Unit: unit, Budget: &budget, OK: v <= budget && v >= 0}
}

// Rows are l as a table.
func (l *Load) Rows() []Row {
	const mib, kib, milli = 1 << 20, 1 << 10, 1000
	online := fact(fmt.Sprintf("online, fewest of %d", l.Nodes), float64(l.Online), "nodes")
	online.OK = l.Online == l.Nodes
	rows := []Row{online,
		fact("connect all", l.Connect, "s"),
		fact("cluster RSS, median", float64(l.Hold.RSSBytes)/mib, "MiB"),
		atMost("cluster RSS, most", float64(l.Hold.RSSMost)/mib, 2048, "MiB"),
		fact("cluster RSS for each connection that is new", l.NewEach/kib, "KiB"),
		atMost("cluster RSS for each idle connection", l.IdleEach/kib, 45, "KiB"),
		fact("cluster RSS for each node under load", l.PerNode/kib, "KiB"),
		atMost("cluster processor", l.Hold.CPU, 100, "% of a core"),
		fact("swarm processor", l.Hold.SwarmCPU, "% of a core"),
		fact("batches", l.Batches, "1/s"),
		fact("ingest to PUBACK, p50", milli*l.IngestP50, "ms"), fact("ingest to PUBACK, p99", milli*l.IngestP99, "ms"),
		fact("ack that it is on disk, p50", milli*l.AckP50, "ms"), fact("ack that it is on disk, p99", milli*l.AckP99, "ms"),
		fact(fmt.Sprintf("command over REST, p50 of %d", l.Commands), milli*l.CommandP50, "ms"), fact("command over REST, p99", milli*l.CommandP99, "ms"),
	}
	rows[5].Note = fmt.Sprintf("beyond %.0f MiB with everybody enrolled and nobody connected; holds the node's record too", float64(l.BareBytes)/mib)
	if l.Enrolled > 0 {
		rows = append(rows, fact(fmt.Sprintf("enrolment of %d", l.Enrolled), l.EnrolRate, "1/s"))
	}
	for _, q := range l.Queries {
		r := fact(q.What, milli*q.Seconds, "ms")
		r.OK, r.Note = q.Error == "", q.Error
		rows = append(rows, r)
	}
	if l.Restart != nil {
		rows = append(rows, l.Restart.rows()...)
	}
	if t := l.Samples; t != nil {
		rows = append(rows, fact("samples made", float64(t.Made), ""),
			atMost("samples unaccounted", math.Max(0, float64(t.Missing)-float64(t.Reported)), 0, ""))
	}
	return rows
}

func (r *Restart) rows() []Row {
	name := fmt.Sprintf("kill -9, %g %% loss: ", 100*r.Loss)
	rows := []Row{fact(name+"REST serves", r.Serves, "s"), fact(name+"50 % are back", r.Half, "s"), atMost(name+"95 % are back", r.Most, 120, "s"),
		fact(name+"all are back", r.All, "s"), fact(name+"backlog is gone", r.Drained, "s"),
		fact(name+"cluster processor meanwhile", r.Use.CPU, "% of a core"), fact(name+"cluster RSS, most", float64(r.Use.RSSMost)/(1<<20), "MiB"),
		fact(name+"connects tried for each node", float64(r.Attempts)/float64(r.Nodes), "")}
	for _, reason := range slices.Sorted(maps.Keys(r.Refused)) {
		rows = append(rows, fact(name+"refused "+reason, r.Refused[reason], ""))
	}
	return rows
}

// show prints rows, and returns whether all budgets are held.
func show(w io.Writer, rows []Row) (ok bool, err error) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tMEASURED\tBUDGET\tVERDICT\tNOTE")
	ok = true
	for _, r := range rows {
		budget, verdict := "-", "info"
		switch {
		case !r.OK:
			verdict, ok = "MISSED", false
		case r.Budget != nil:
			verdict = "ok"
		}
		if r.Budget != nil {
			budget = number(*r.Budget)
		}
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%s\n", r.What, number(r.Measured), r.Unit, budget, verdict, r.Note)
	}
	return ok, t.Flush()
}

func number(v float64) string {
	if math.Abs(v) >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// show prints each figure at each size, the line through them, and where it leads at another size.
func (g *Growth) show(w io.Writer, at int) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "WHAT\tUNIT")
	for _, l := range g.Points {
		fmt.Fprintf(t, "\t%d", l.Nodes)
	}
	fmt.Fprintf(t, "\tWITHOUT NODES\tEACH 1,000\tAT %d, ON PAPER\tSTOPS AT\n", at)
	for _, c := range curves() {
		fmt.Fprintf(t, "%s\t%s", c.name, c.unit)
		for _, l := range g.Points {
			fmt.Fprintf(t, "\t%s", number(c.of(l)))
		}
		base, each := c.slope(g.Points)
		stop, led := "-", number(base+each*float64(at))
		if each <= 0 { // noise, or what does not come with nodes: nothing to carry on
			led = "-"
		}
		if c.limit > 0 && each > 0 {
			stop = fmt.Sprintf("%.0f nodes: %s", (c.limit-base)/each, c.stop)
		}
		fmt.Fprintf(t, "\t%s\t%s\t%s\t%s\n", number(base), number(1000*each), led, stop)
	}
	return t.Flush()
}
