package fault

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// tell says how a run went, and how to run it again when it failed.
func (d *Door) tell(f *flags, j *Job, list []*Outcome, err error) (ok bool) {
	ok = err == nil
	for _, o := range list {
		a := o.Account
		if a == nil {
			fmt.Fprintf(d.Err, "seed %d: no account; %d violations; %.0fs\n", o.Seed, len(o.Violations), o.Seconds)
		} else {
			fmt.Fprintf(d.Err, "seed %d: %d violations; %s; %d commands %v, %d late; %d samples, %d missing, %d reported; scrapes %d, %d missing; %.0fs\n", o.Seed,
				len(o.Violations), counts(o.Faults), a.Orders, a.Ends, a.Late, a.Samples.Made, a.Samples.Missing, a.Samples.Reported, o.Edges.Made,
				o.Edges.Missing, o.Seconds)
		}
		for _, v := range o.Violations[:min(len(o.Violations), 10)] {
			fmt.Fprintf(d.Err, "  %s\n", v)
		}
		ok = ok && len(o.Violations) == 0
	}
	if err != nil {
		fmt.Fprintf(d.Err, "seed %d: %v\n", j.Seed, err)
	}
	if !ok {
		again := fmt.Sprintf("skerry-fault --seed %d --for %s --speed %g --crowd %d --profile %s", j.Seed, j.Length, j.Speed, j.Nodes, f.profile)
		if f.kube {
			again += " --kube"
		}
		if len(f.faults) > 0 {
			again += " --faults " + strings.Join(f.faults, ",")
		}
		fmt.Fprintf(d.Err, "  again: %s\n  logs:  %s\n", again, j.Dir)
	}
	return ok
}

func counts(m map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[k], k))
	}
	return strings.Join(parts, ", ")
}

// Slope is how a figure of a process moves from round to round.
type Slope struct {
	Process string  `json:"process"`
	Figure  string  `json:"figure"`
	First   float64 `json:"first"`
	Last    float64 `json:"last"`
	PerHour float64 `json:"perHour"` // least squares
	Verdict string  `json:"verdict"` // of memory and goroutines: steady, grows, or too few rounds to tell
}

// Summary is what all runs together came to.
type Summary struct {
	Seeds    int            `json:"seeds"`
	Failed   int            `json:"failed"`
	Faults   map[string]int `json:"faults"`
	Orders   int            `json:"orders"`
	Samples  uint64         `json:"samples"`
	Slopes   []Slope        `json:"slopes,omitempty"`
	Outcomes []*Outcome     `json:"outcomes"`
}

func (d *Door) summary(f *flags, all []*Outcome, failed int) error {
	s := Summary{Failed: failed, Faults: map[string]int{}, Seeds: len(all), Outcomes: all}
	for _, o := range all {
		for k, n := range o.Faults {
			s.Faults[k] += n
		}
		if o.Account != nil {
			s.Orders += o.Account.Orders
			s.Samples += o.Account.Samples.Made
		}
	}
	if f.hours > 0 {
		s.Slopes = slopes(all)
	}
	raw, err := json.MarshalIndent(&s, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(f.dir, "summary.json"), append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep summary: %w", err)
	}
	if f.out == "json" {
		e := json.NewEncoder(d.Out)
		e.SetIndent("", "  ")
		return e.Encode(&s)
	}
	t := tabwriter.NewWriter(d.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "rounds\t%d, of %d runs failed\nfaults\t%s\ncommands\t%d\nsamples\t%d\n", s.Seeds, s.Failed, counts(s.Faults), s.Orders, s.Samples)
	if len(s.Slopes) > 0 {
		fmt.Fprint(t, "PROCESS\tFIGURE\tFIRST\tLAST\tPER HOUR\tVERDICT\n")
	}
	for _, l := range s.Slopes {
		fmt.Fprintf(t, "%s\t%s\t%.1f\t%.1f\t%+.2f\t%s\n", l.Process, l.Figure, l.First, l.Last, l.PerHour, l.Verdict)
	}
	return t.Flush()
}

// slopes fits a line through what each process came to after each round.
func slopes(all []*Outcome) (out []Slope) {
	figures := []struct {
		name string
		of   func(Gauge) float64
	}{
		{"RSS MiB", func(g Gauge) float64 { return float64(g.RSSBytes) / (1 << 20) }},
		{"goroutines", func(g Gauge) float64 { return g.Goroutines }},
		{"disk MiB", func(g Gauge) float64 { return float64(g.DiskBytes) / (1 << 20) }},
	}
	processes := map[string]bool{}
	for _, o := range all {
		for p := range o.After {
			processes[p] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(processes)) {
		for _, f := range figures {
			var xs, ys []float64
			hours := 0.0
			for _, o := range all {
				hours += o.Seconds / 3600
				if g, ok := o.After[p]; ok && f.of(g) > 0 {
					xs, ys = append(xs, hours), append(ys, f.of(g))
				}
			}
			if len(ys) > 0 {
				l := Slope{p, f.name, ys[0], ys[len(ys)-1], fit(xs, ys), "-"} // a disk fills by design, up to a limit
				if !strings.HasPrefix(f.name, "disk") {
					l.Verdict = judge(xs, ys)
				}
				out = append(out, l)
			}
		}
	}
	return out
}

// fewRounds is fewer than a verdict takes, and the bounds are what growth is worth the name: larger than chance makes it,
// and a tenth of what was there.
const (
	fewRounds  = 6
	certain    = 3 // standard errors
	noteworthy = 0.1
)

// judge tells whether ys grow with xs.
func judge(xs, ys []float64) string {
	if len(xs) < fewRounds {
		return "too few rounds"
	}
	slope := fit(xs, ys)
	n := float64(len(xs))
	var mx, my, sxx, rest float64
	for i := range xs {
		mx, my = mx+xs[i]/n, my+ys[i]/n
	}
	for i := range xs {
		sxx += (xs[i] - mx) * (xs[i] - mx)
		off := ys[i] - my - slope*(xs[i]-mx)
		rest += off * off
	}
	chance := math.Sqrt(rest / (n - 2) / sxx)
	if slope > certain*chance && slope*(xs[len(xs)-1]-xs[0]) > noteworthy*my {
		return "grows"
	}
	return "steady"
}

// fit is the slope of the line of least squares, 0 for fewer than two points.
func fit(xs, ys []float64) float64 {
	n := float64(len(xs))
	var sx, sy, sxx, sxy float64
	for i := range xs {
		sx, sy, sxx, sxy = sx+xs[i], sy+ys[i], sxx+xs[i]*xs[i], sxy+xs[i]*ys[i]
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
