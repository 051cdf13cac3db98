package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/test/skew"
)

// The exit codes.
const (
	ExitOK     = 0
	ExitFailed = 1 // something is not accounted for, or the harness failed
	ExitUsage  = 2
)

const usageText = `skerry-fault breaks a site in every way that it knows, by a seed, and accounts for everything

usage: skerry-fault --seed 7 [flags]
       skerry-fault --seeds 1..200 --parallel 2
       skerry-fault --seed 1 --hours 1              rounds on one site, with slopes

A cluster agent, two node agents and a crowd run in network namespaces of their own, which need root and are removed at
the end. The same seed gives the same schedule; --print shows it. Faults:

`

// Door is the command line of skerry-fault.
type Door struct {
	Out, Err io.Writer
}

// flags are what the command line says.
type flags struct {
	set        *pflag.FlagSet
	job        Job
	seeds, out string
	faults     []string
	profile    string
	dir        string
	parallel   int
	hours      float64
	kube       bool
	print      bool
}

func (d *Door) flags() *flags {
	f := &flags{set: pflag.NewFlagSet("skerry-fault", pflag.ContinueOnError)}
	f.set.SortFlags = false
	f.set.SetOutput(d.Err)
	f.set.Usage = func() {
		fmt.Fprint(d.Err, usageText)
		t := tabwriter.NewWriter(d.Err, 0, 0, 2, ' ', 0)
		for _, k := range append(Kinds(), kubeKinds()...) {
			fmt.Fprintf(t, "  %s\t%s\n", k.Name, k.Help)
		}
		_ = t.Flush() // an error here would be told to the same writer
		fmt.Fprint(d.Err, "\nflags:\n", f.set.FlagUsages())
	}
	v := f.set
	v.Uint64Var(&f.job.Seed, "seed", 1, "of the schedule")
	v.StringVar(&f.seeds, "seeds", "", "several, as 1..200 or 3,7,20..30")
	v.IntVar(&f.parallel, "parallel", 1, "seeds at once, each with a site of its own")
	f.job.Length = 3 * time.Minute
	v.Var((*configs.Duration)(&f.job.Length), "for", "length of a schedule")
	v.Float64Var(&f.job.Speed, "speed", 6, "by which it is compressed: 3m pass in 30s")
	v.StringVar(&f.profile, "profile", "all", "which faults: all, or one of the groups")
	v.StringSliceVar(&f.faults, "faults", nil, "which faults, by name")
	v.BoolVar(&f.kube, "kube", false, "a Kubernetes control plane beside the site, and its faults among all (make bin/kube/kubectl)")
	v.IntVar(&f.job.Nodes, "crowd", 30, "simulated nodes, 3 to 500")
	v.Float64Var(&f.hours, "hours", 0, "play seed after seed on one site for so long, and tell slopes")
	v.StringVar(&f.dir, "dir", "/tmp/skerry-fault", "for logs; a directory for each seed in it")
	v.StringVar(&f.job.Bin, "bin", "bin", "directory of skerry-cluster and skerry-edge")
	v.BoolVar(&f.print, "print", false, "print the schedule and do nothing")
	v.StringVarP(&f.out, "output", "o", "table", "table or json")
	return f
}

// Main runs the command line and returns the exit code.
func (d *Door) Main(ctx context.Context, args []string) int {
	if path, traced := os.LookupEnv(clockShift); traced {
		return d.traced(path, args)
	}
	if len(args) == 2 && args[0] == insideArg {
		return d.inside(ctx, args[1])
	}
	f := d.flags()
	if err := f.set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return ExitOK
		}
		return d.usage(err)
	}
	seeds, err := f.check()
	if err != nil {
		return d.usage(err)
	}
	if f.print {
		s := f.job.schedule(f.job.Seed)
		if _, err := io.WriteString(d.Out, s.YAML()); err != nil {
			return ExitFailed
		}
		return ExitOK
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(d.Err, "skerry-fault: network namespaces need root")
		return ExitFailed
	}
	return d.many(ctx, f, seeds)
}

func (d *Door) usage(err error) int {
	fmt.Fprintf(d.Err, "skerry-fault: %s\nsee: skerry-fault --help\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	return ExitUsage
}

// check returns the seeds, or all that is wrong.
func (f *flags) check() (seeds []uint64, err error) {
	var errs []error
	need := func(ok bool, flag string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("--%s %v: wanted %s", flag, value, want))
		}
	}
	need(f.set.NArg() == 0, "", f.set.Args(), "no arguments")
	need(f.job.Length >= 10*time.Second && f.job.Length <= 24*time.Hour, "for", f.job.Length, "10s to 24h")
	need(f.job.Speed >= 0.1 && f.job.Speed <= 20, "speed", f.job.Speed, "0.1 to 20")
	need(f.job.Nodes >= 3 && f.job.Nodes <= 500, "crowd", f.job.Nodes, "3 to 500")
	need(f.parallel >= 1 && f.parallel <= 16, "parallel", f.parallel, "1 to 16")
	need(f.hours >= 0, "hours", f.hours, "no negative number")
	need(f.out == "table" || f.out == "json", "output", f.out, "table or json")
	profile, perr := ProfileOf(f.profile, f.faults)
	profile.Kube = profile.Kube || f.kube
	f.job.Profile = profile
	seeds, ok := seedsOf(f.seeds)
	need(ok, "seeds", f.seeds, "as 1..200 or 3,7,20..30")
	if len(seeds) == 0 {
		seeds = []uint64{f.job.Seed}
	}
	var aerr, berr error
	f.job.Bin, aerr = filepath.Abs(f.job.Bin)
	f.dir, berr = filepath.Abs(f.dir)
	f.job.Until = time.Duration(f.hours * float64(time.Hour))
	return seeds, errors.Join(append(errs, perr, aerr, berr)...)
}

// seedsOf reads a list of seeds and of ranges of them.
func seedsOf(text string) (seeds []uint64, ok bool) {
	if text == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(text, ",") {
		a, b, isRange := strings.Cut(part, "..")
		if !isRange {
			b = a
		}
		first, e1 := strconv.ParseUint(a, 10, 64)
		last, e2 := strconv.ParseUint(b, 10, 64)
		if e1 != nil || e2 != nil || first > last || last-first >= 100_000 {
			return nil, false
		}
		for s := first; s <= last; s++ {
			seeds = append(seeds, s)
		}
	}
	return seeds, true
}

// traced runs a program with a clock that others set.
func (d *Door) traced(path string, line []string) int {
	shift, err := skew.OpenShift(path)
	if err == nil {
		err = os.Unsetenv(clockShift)
	}
	code := 125
	if err == nil {
		code, err = skew.Run(shift.Get, line)
	}
	if err != nil {
		fmt.Fprintln(d.Err, "run with a wrong clock:", err)
		return 125
	}
	return code
}

// insideArg is the first argument of the process that is a run's harness, in the namespace of the hub.
const insideArg = "inside"

// Job is what such a process has to do.
type Job struct {
	Prefix  string
	Dir     string
	Bin     string
	Seed    uint64
	Profile Profile
	Length  time.Duration
	Speed   float64
	Nodes   int
	Until   time.Duration // rounds with seed after seed for so long; 0: one
	Bites   bool          // in place of rounds: prove that every fault is felt
	Only    string        // of these, one
}

func (j *Job) schedule(seed uint64) Schedule { return Make(seed, j.Profile, j.Length) }

// inside is such a process.
func (d *Door) inside(ctx context.Context, text string) int {
	var job Job
	err := json.Unmarshal([]byte(text), &job)
	if err == nil {
		err = job.run(ctx, d.Err)
	}
	if err != nil {
		fmt.Fprintln(d.Err, "skerry-fault:", err)
		return ExitFailed
	}
	return ExitOK
}
