// Command bench measures what the budgets promise, each beside a reference measured in the same run:
//
//	go run ./test/bench [-short] [-minutes 5] [-only size,ingest,command,memory,scale,edge,kube] [-connections 250] [-nodes 1000] [-o json]
//
// It wants the binaries of `make build full` in bin/, Debian's mosquitto and, for kube, which is left out without, the control
// plane of `make bin/kube/kubectl` and root. The exit code is 1 when a budget is missed and 2 when something could not be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options is what the flags say.
type options struct {
	short   bool
	minutes float64
	only    []string
	json    bool
	bin     string

	connections int
	nodes       int
	dir         string    // temporary; each measurement makes its own directory in it
	say         io.Writer // progress
	given       string    // the flags that say what is measured how, as they were given
}

// row is one line of the table. A row without a budget only informs.
type row struct {
	What      string   `json:"what"`
	Measured  float64  `json:"measured"`
	Unit      string   `json:"unit"`
	Budget    *float64 `json:"budget,omitempty"`
	Reference *float64 `json:"reference,omitempty"`
	Ratio     *float64 `json:"ratio,omitempty"`
	Verdict   string   `json:"verdict"`
	Command   string   `json:"command"` // measures it again as it was
	Note      string   `json:"note,omitempty"`
}

const (
	within = "ok"
	missed = "MISSED"
	info   = "info"
)

// fact is a row that only informs.
func fact(what string, measured float64, unit string) row {
	return row{What: what, Measured: measured, Unit: unit, Verdict: info}
}

// atMost is a row whose measure must not be over budget.
func atMost(what string, measured, budget float64, unit string) row {
	return row{What: what, Measured: measured, Unit: unit, Budget: &budget, Verdict: verdict(measured <= budget)}
}

// ratioOf is a row whose measure divided by reference is judged by good; budget is the ratio wanted.
func ratioOf(r row, reference, budget float64, good func(ratio, budget float64) bool) row {
	ratio := r.Measured / reference
	r.Reference, r.Ratio, r.Budget, r.Verdict = &reference, &ratio, &budget, verdict(good(ratio, budget))
	return r
}

func verdict(ok bool) string {
	if ok {
		return within
	}
	return missed
}

// explained adds to a miss where its reasons are. It stays a miss.
func explained(r row, where string) row {
	if r.Verdict == missed {
		r.Note = strings.TrimPrefix(r.Note+"; why: "+where, "; ")
	}
	return r
}

// measurement is one group of rows, chosen by name.
type measurement struct {
	name string
	run  func(ctx context.Context, o options) ([]row, error)
}

func measurements() []measurement {
	return []measurement{{"size", size}, {"ingest", ingest}, {"command", command}, {"memory", memory}, {"scale", crowd}, {"edge", edge},
		{"kube", kube}}
}

// names are those of all measurements, for people.
func names() string {
	var all []string
	for _, m := range measurements() {
		all = append(all, m.name)
	}
	return strings.Join(all, ", ")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var code int
	if len(os.Args) == 4 && os.Args[1] == "part" { // started by another of us
		if err := part(ctx, os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			code = 1
		}
	} else {
		code = bench(ctx, os.Args[1:], os.Stdout)
	}
	stop()
	os.Exit(code)
}

func bench(ctx context.Context, args []string, out io.Writer) int {
	o, err := parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	if o.dir, err = os.MkdirTemp("", "skerry-bench-"); err != nil {
		fmt.Fprintln(os.Stderr, "bench: make temporary directory:", err)
		return 2
	}
	rows, err := measure(ctx, o)
	err = errors.Join(err, show(out, rows, o.json), os.RemoveAll(o.dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	if slices.ContainsFunc(rows, func(r row) bool { return r.Verdict == missed }) {
		return 1
	}
	return 0
}

func parse(args []string) (options, error) {
	o := options{say: os.Stderr}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.BoolVar(&o.short, "short", false, "a quick look: 30 s for the node agent, fewer rounds")
	fs.Float64Var(&o.minutes, "minutes", 5, "how long the node agent is watched")
	fs.StringVar(&o.bin, "bin", "bin", "directory of the binaries")
	fs.IntVar(&o.connections, "connections", 250, "idle connections for memory; enrolment takes 250 at once, then 20 a second")
	fs.IntVar(&o.nodes, "nodes", 1000, "simulated nodes of scale")
	only := fs.String("only", "", "measurements, separated by commas: "+names()+" (empty: all)")
	format := fs.String("o", "table", "table or json")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	fs.Visit(func(f *flag.Flag) {
		if f.Name != "only" && f.Name != "o" {
			o.given += fmt.Sprintf(" -%s=%s", f.Name, f.Value)
		}
	})
	if *format != "table" && *format != "json" {
		return o, fmt.Errorf("-o %q: wanted table or json", *format)
	}
	o.json = *format == "json"
	if o.minutes <= 0 {
		return o, fmt.Errorf("-minutes %v: wanted more than 0", o.minutes)
	}
	if o.short {
		o.minutes = 0.5
	}
	if o.connections <= 0 {
		return o, fmt.Errorf("-connections %d: wanted more than 0", o.connections)
	}
	if o.nodes <= 0 {
		return o, fmt.Errorf("-nodes %d: wanted more than 0", o.nodes)
	}
	if *only == "" {
		return o, nil
	}
	o.only = strings.Split(*only, ",")
	for _, name := range o.only {
		if !slices.ContainsFunc(measurements(), func(m measurement) bool { return m.name == name }) {
			return o, fmt.Errorf("-only %q: wanted some of %s", name, names())
		}
	}
	return o, nil
}

// measure runs what was chosen, one after the other, so that nothing disturbs anything. What fails does not keep the
// rest from being measured.
func measure(ctx context.Context, o options) ([]row, error) {
	var rows []row
	var errs []error
	for _, m := range measurements() {
		if len(o.only) > 0 && !slices.Contains(o.only, m.name) {
			continue
		}
		fmt.Fprintf(o.say, "%s %s …\n", time.Now().Format(time.TimeOnly), m.name)
		got, err := m.run(ctx, o)
		for i := range got {
			got[i].Command = "go run ./test/bench -only " + m.name + o.given
		}
		rows = append(rows, got...)
		if err != nil {
			errs = append(errs, fmt.Errorf("measure %s: %w", m.name, err))
		}
	}
	return rows, errors.Join(errs...)
}
