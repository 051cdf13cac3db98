package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/test/fault"
)

// The exit codes.
const (
	ExitOK     = 0
	ExitMissed = 1 // a budget is missed
	ExitFailed = 2 // something could not be measured, or the usage is wrong
)

const usageText = `skerry-scale measures one cluster agent, held to a core and a fixed memory, under thousands of simulated nodes

usage: skerry-scale load   [flags]   a steady load
       skerry-scale storm  [flags]   the same, and kill -9 under it; --loss 0.2 loses a fifth of all packets
       skerry-scale kube   [flags]   as nodes of a Kubernetes cluster, which is started beside it (make bin/kube/kubectl)
       skerry-scale fanout [flags]   a change of every node's desired document, a command to all of them, and how fast they connect
       skerry-scale growth [flags]   both at each of --sizes, into --out after every size and beside it as SVG
       skerry-scale plot FILE        draw the SVG beside FILE, and the lines through its figures

Certificates and the cluster agent's state are kept in --dir: enrol once, with load or storm, and use them again.

flags:
`

// Door is the command line of skerry-scale.
type Door struct {
	Out, Err io.Writer

	storm func(ctx context.Context, cfg Config, hold time.Duration) (*Load, error) // of a test; nil: RunStorm
}

type flags struct {
	set           *pflag.FlagSet
	cfg           Config
	minutes       float64
	swarmCPU      int
	sizes         []int
	memory        string
	out, format   string
	profile       string
	inside        string
	projectedSize int
	add           bool
	pods          bool
}

func (d *Door) flags() *flags {
	f := &flags{set: pflag.NewFlagSet("skerry-scale", pflag.ContinueOnError)}
	v := f.set
	v.SortFlags = false
	v.SetOutput(d.Err)
	v.Usage = func() { fmt.Fprint(d.Err, usageText, v.FlagUsages()) }
	v.IntVar(&f.cfg.Nodes, "nodes", 10000, "how many")
	v.Float64Var(&f.minutes, "minutes", 15, "how long the load is held; storm and growth: before the kill")
	f.cfg.Cadence = 30 * time.Second
	v.Var((*configs.Duration)(&f.cfg.Cadence), "cadence", "between two batches of a node")
	v.IntVar(&f.cfg.Series, "series", 20, "of each node")
	v.Float64Var(&f.cfg.Rate, "rate", 150, "nodes started each second")
	v.StringVar(&f.cfg.Program, "cluster", "bin/skerry-cluster", "path of skerry-cluster")
	v.StringArrayVar(&f.cfg.Settings, "set", nil, "key=value of its configuration, may be repeated")
	v.StringVar(&f.cfg.Dir, "dir", "", "directory of certificates and state (default a temporary one)")
	v.IntVar(&f.cfg.CPU, "cluster-cpu", 0, "processor of the cluster agent; -1: any")
	v.IntVar(&f.swarmCPU, "swarm-cpu", 1, "processor of everything else; -1: any")
	v.StringVar(&f.memory, "memory", "2GiB", "limit of the cluster agent; 0: none; takes root")
	v.Float64Var(&f.cfg.Loss, "loss", 0, "storm: share of packets that is lost, each way; takes root, and certificates in --dir")
	v.BoolVar(&f.pods, "pods", false, "kube: a pod on each node too, by a DaemonSet")
	v.IntSliceVar(&f.sizes, "sizes", []int{100, 1000, 5000, 10000}, "growth: numbers of nodes")
	v.StringVar(&f.out, "out", "docs/performance/growth.json", "growth: file of the results")
	v.BoolVar(&f.add, "add", false, "growth: keep what --out holds, measure only sizes that it has not; of the same machine, version and load")
	v.IntVar(&f.projectedSize, "project", 100000, "growth, plot: size to carry the lines on to")
	v.StringVarP(&f.format, "output", "o", "table", "table or json")
	v.StringVar(&f.profile, "swarm-profile", "", "file for a processor profile of the swarm")
	v.StringVar(&f.inside, "inside", "", "prefix of the network namespaces that this process is in")
	_ = v.MarkHidden("inside") // of a flag that is there
	return f
}

// check returns all that is wrong.
func (f *flags) check() error {
	var errs []error
	need := func(ok bool, field string, value any, wanted string) {
		if !ok {
			errs = append(errs, fmt.Errorf("--%s %v: wanted %s", field, value, wanted))
		}
	}
	need(f.cfg.Nodes >= 1 && f.cfg.Nodes <= 100_000, "nodes", f.cfg.Nodes, "1 to 100000")
	need(f.minutes > 0, "minutes", f.minutes, "more than 0")
	need(f.cfg.Rate > 0, "rate", f.cfg.Rate, "more than 0")
	need(f.cfg.Loss >= 0 && f.cfg.Loss < 1, "loss", f.cfg.Loss, "0 to below 1")
	need(f.cfg.Loss == 0 || f.cfg.Dir != "", "loss", f.cfg.Loss, "--dir with the certificates of an earlier run too")
	memory, err := configs.ParseBytes(f.memory)
	need(err == nil, "memory", f.memory, "a size such as 2GiB")
	f.cfg.Memory = int64(memory)
	need(len(f.sizes) > 0 && slices.Min(f.sizes) >= 1 && slices.Max(f.sizes) <= 100_000, "sizes", f.sizes, "at least one, each 1 to 100000")
	need(f.format == "table" || f.format == "json", "output", f.format, "table or json")
	return errors.Join(errs...)
}

// Main runs the command line and returns the exit code.
func (d *Door) Main(ctx context.Context, args []string) int {
	f := d.flags()
	if err := f.set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return ExitOK
		}
		return d.failed(err)
	}
	if err := f.check(); err != nil {
		return d.failed(err)
	}
	what := f.set.Arg(0)
	if what == "kube" && f.set.NArg() == 1 {
		return d.kube(ctx, f)
	}
	if what == "plot" && f.set.NArg() == 2 {
		return d.plot(f.set.Arg(1), f.projectedSize)
	}
	if f.set.NArg() != 1 || !slices.Contains([]string{"load", "storm", "fanout", "growth"}, what) {
		return d.failed(fmt.Errorf("arguments %q: wanted load, storm, fanout, kube, growth or plot FILE; see --help", f.set.Args()))
	}
	if f.cfg.Loss > 0 && f.inside == "" {
		return d.enter(ctx, args)
	}
	ok, err := d.run(ctx, f, what)
	if err != nil {
		return d.failed(err)
	}
	if !ok {
		return ExitMissed
	}
	return ExitOK
}

func (d *Door) failed(err error) int {
	fmt.Fprintln(d.Err, "skerry-scale:", err)
	return ExitFailed
}

// enter runs the same in a network of its own, which is where packets can be lost.
func (d *Door) enter(ctx context.Context, args []string) int {
	prefix := fmt.Sprintf("skscale%d-", os.Getpid())
	var names []string
	for _, h := range Hosts() {
		names = append(names, h.Name)
	}
	defer fault.DropSpaces(context.WithoutCancel(ctx), prefix)
	if err := fault.MakeSpaces(ctx, prefix, names); err != nil {
		return d.failed(err)
	}
	self, err := os.Executable()
	if err != nil {
		return d.failed(err)
	}
	// Not ip-netns(8): it mounts another /sys, which is without the control groups.
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + prefix + names[0], self, "--inside", prefix}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Stdout, cmd.Stderr = d.Out, d.Err
	err = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code
	}
	return d.failed(err)
}

// prepare completes what the flags say. drop removes a directory that is nobody's.
func (d *Door) prepare(f *flags) (cfg Config, drop func(), err error) {
	cfg, drop = f.cfg, func() {}
	cfg.Prefix = f.inside
	cfg.Say = func(format string, args ...any) {
		fmt.Fprintf(d.Err, "%s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
	}
	if cfg.Dir == "" {
		if cfg.Dir, err = os.MkdirTemp("", "skerry-scale-"); err != nil {
			return cfg, drop, fmt.Errorf("make directory: %w", err)
		}
		drop = func() { _ = os.RemoveAll(cfg.Dir) }
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return cfg, drop, fmt.Errorf("find directory: %w", err)
	}
	return cfg, drop, nil
}

// run measures.
func (d *Door) run(ctx context.Context, f *flags, what string) (ok bool, err error) {
	cfg, drop, err := d.prepare(f)
	if err != nil {
		return false, err
	}
	defer drop()
	if f.swarmCPU >= 0 {
		if err := pin(f.swarmCPU); err != nil {
			return false, err
		}
	}
	if f.profile != "" {
		file, err := os.Create(f.profile)
		if err != nil {
			return false, fmt.Errorf("profile: %w", err)
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return false, fmt.Errorf("profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	hold := time.Duration(f.minutes * float64(time.Minute))
	if what == "growth" {
		return d.growth(ctx, f, cfg, hold)
	}
	if what == "fanout" {
		fan, err := RunFanout(ctx, cfg)
		if err != nil {
			return false, err
		}
		return d.tellRows(f, fan.Rows(), fan)
	}
	measure := func() (*Load, error) { return RunLoad(ctx, cfg, hold, nil) }
	if what == "storm" {
		measure = func() (*Load, error) { return RunStorm(ctx, cfg, hold) }
	}
	l, err := measure()
	ok, serr := d.tell(f, l)
	return ok, errors.Join(err, serr)
}

func (d *Door) tell(f *flags, l *Load) (bool, error) {
	if f.format != "json" {
		fmt.Fprintf(d.Out, "memory: %s\n", l.Limit)
	}
	return d.tellRows(f, l.Rows(), struct {
		*Load
		Rows []Row `json:"rows"`
	}{l, l.Rows()})
}

// tellRows shows a table, or all as JSON.
func (d *Door) tellRows(f *flags, rows []Row, all any) (bool, error) {
	if f.format != "json" {
		return show(d.Out, rows)
	}
	ok := true
	for _, r := range rows {
		ok = ok && r.OK
	}
	e := json.NewEncoder(d.Out)
	e.SetIndent("", "  ")
	return ok, e.Encode(all)
}

// plot draws a file of growth, and prints it.
func (d *Door) plot(path string, project int) int {
	g, err := ReadGrowth(path)
	if err == nil {
		err = g.draw(path)
	}
	if err == nil {
		err = g.show(d.Out, project)
	}
	if err != nil {
		return d.failed(err)
	}
	return ExitOK
}
