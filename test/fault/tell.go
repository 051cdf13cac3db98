package fault

import (
	"encoding/json"
	"fmt"
	"maps"
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
	if f.hours > 0 {
		for _, l := range slopes(list) {
			if l.Verdict == growing {
				fmt.Fprintf(d.Err, "  %s grows: %s from %.1f to %.1f, %+.2f an hour\n", l.Process, l.Figure, l.First, l.Last, l.PerHour)
				ok = false
			}
		}
	}
	if !ok {
		again := fmt.Sprintf("skerry-fault --seed %d --for %s --speed %g --crowd %d --profile %s", j.Seed, j.Length, j.Speed, j.Nodes, f.profile)
		if f.hours > 0 {
			again += fmt.Sprintf(" --hours %g", f.hours)
		}
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
