package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// The exit codes.
const (
	ExitOK     = 0
	ExitFailed = 1 // a step failed, or something is not accounted for
	ExitUsage  = 2
)

const usageText = `skerry-swarm simulates node agents, to size a site or to test one

usage: skerry-swarm --nodes 200 --join STRING [flags]
       skerry-swarm version

The nodes enrol, connect, and report for --for. Then their outboxes are drained. With --access commands can be given, and
at the end every sample and every command is accounted for. Nothing but the given URLs is ever connected to.

flags:
`

// Door is the command line of skerry-swarm.
type Door struct {
	Out, Err io.Writer
}

// flags are what the command line says. Those that are profile fields count only when they are given.
type flags struct {
	set                                   *pflag.FlagSet
	join, identities, profile, scenario   string
	access, cluster, clusterDir, dir, out string
	urls                                  []string
	p                                     Profile
	rate, commands                        float64
	hold                                  time.Duration
	sources                               int
	settings                              []string
}

func (d *Door) flags() *flags {
	f := &flags{set: pflag.NewFlagSet("skerry-swarm", pflag.ContinueOnError)}
	f.set.SortFlags = false
	f.set.SetOutput(d.Err)
	f.set.Usage = func() { fmt.Fprint(d.Err, usageText, f.set.FlagUsages()) }
	v := f.set
	v.IntVar(&f.p.Nodes, "nodes", 100, "how many")
	v.StringVar(&f.join, "join", "", "join string, or @file, as skerry token create prints it")
	v.StringVar(&f.identities, "identities", "", "directory of certificates: those there are used, others are made and kept")
	v.StringVar(&f.access, "access", "", "contexts file with an administrator's access, such as the cluster agent's admin.yaml")
	v.StringSliceVar(&f.urls, "url", nil, "broker, such as mqtts://host:8883, in place of the one that the cluster agent names")
	v.StringVar(&f.cluster, "cluster", "", "path of skerry-cluster: one is started on this machine and ended at the end")
	v.StringVar(&f.clusterDir, "cluster-dir", "", "directory of that one (default a temporary one)")
	v.StringArrayVar(&f.settings, "cluster-set", nil, "key=value of its configuration, may be repeated")
	v.StringVar(&f.profile, "profile", "", "YAML file that says what the nodes are like")
	v.StringVar(&f.scenario, "scenario", "", "YAML file of steps, in place of the default one")
	f.p.Cadence = 30 * time.Second
	v.Var((*configs.Duration)(&f.p.Cadence), "cadence", "between two rows of samples of a node")
	v.IntVar(&f.p.Series, "series", 20, "of each node")
	v.IntVar(&f.p.BatchRows, "batch-rows", 1, "rows in a message")
	v.Float64Var(&f.p.Churn.PerMinute, "churn", 0, "share of the nodes that is disconnected each minute")
	v.StringVar(&f.p.Prefix, "prefix", "swarm", "of the node ids")
	v.Float64Var(&f.rate, "rate", 50, "nodes started each second")
	v.IntVar(&f.sources, "sources", 1, "addresses of 127.0.0.0/8 to connect from, when the cluster agent is there too")
	v.Float64Var(&f.commands, "commands", 0, "commands given each second, through REST")
	f.hold = time.Minute
	v.Var((*configs.Duration)(&f.hold), "for", "how long, once all are online")
	v.StringVar(&f.dir, "dir", "", "directory for what is on disk (default a temporary one)")
	v.StringVarP(&f.out, "output", "o", "table", "table or json")
	return f
}

// Main runs the command line and returns the exit code.
func (d *Door) Main(ctx context.Context, args []string) int {
	f := d.flags()
	if err := f.set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return ExitOK
		}
		return d.usage(err)
	}
	if slices.Equal(f.set.Args(), []string{"version"}) {
		fmt.Fprintln(d.Out, agent.VersionLine("skerry-swarm"))
		return ExitOK
	}
	if f.set.NArg() > 0 || f.out != "table" && f.out != "json" {
		return d.usage(fmt.Errorf("arguments %v, output %q: wanted none, and table or json", f.set.Args(), f.out))
	}
	profile, scenario, err := f.load()
	if err != nil {
		return d.usage(err)
	}
	debug.SetGCPercent(25) // there is much that lives long, and little that does not
	r, err := d.run(ctx, f, profile, scenario)
	if r != nil {
		if err != nil {
			r.Error = err.Error()
		}
		if werr := r.Write(d.Out, f.out == "json"); werr != nil {
			err = errors.Join(err, werr)
		}
	}
	if err != nil {
		fmt.Fprintln(d.Err, "skerry-swarm:", err)
		return ExitFailed
	}
	return ExitOK
}

func (d *Door) usage(err error) int {
	fmt.Fprintf(d.Err, "skerry-swarm: %s\nsee: skerry-swarm --help\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	return ExitUsage
}

// load reads the files and lays the flags over them. It tells all that is wrong.
func (f *flags) load() (Profile, Scenario, error) {
	var errs []error
	read := func(path string) []byte {
		if path == "" {
			return nil
		}
		raw, err := os.ReadFile(path)
		errs = append(errs, err)
		return raw
	}
	profile := DefaultProfile()
	if text := read(f.profile); text != nil {
		if err := strict(text, &profile); err != nil {
			errs = append(errs, fmt.Errorf("profile %s: %w", f.profile, err))
		}
	}
	for name, take := range map[string]func(){
		"nodes": func() { profile.Nodes = f.p.Nodes }, "cadence": func() { profile.Cadence = f.p.Cadence }, "series": func() { profile.Series = f.p.Series },
		"batch-rows": func() { profile.BatchRows = f.p.BatchRows }, "churn": func() { profile.Churn.PerMinute = f.p.Churn.PerMinute },
		"prefix": func() { profile.Prefix = f.p.Prefix },
	} {
		if f.set.Changed(name) {
			take()
		}
	}
	errs = append(errs, profile.Validate())
	scenario := f.usual(&profile)
	if text := read(f.scenario); text != nil {
		var err error
		scenario, err = ParseScenario(text)
		errs = append(errs, err)
	} else if f.scenario == "" {
		errs = append(errs, scenario.Validate())
	}
	if f.join == "" && f.identities == "" && f.access == "" && f.cluster == "" {
		errs = append(errs, errors.New("whom to simulate for? give --join, --access, --cluster or --identities"))
	}
	return profile, scenario, errors.Join(errs...)
}

// usual is the scenario without a file.
func (f *flags) usual(p *Profile) Scenario {
	s := Scenario{Name: "usual", Limit: f.hold + time.Duration(float64(p.Nodes)/f.rate*float64(time.Second)) + 30*time.Minute}
	s.Steps = []Step{{Do: "ramp", Rate: f.rate}, {Do: "await", Share: 1, Within: 10 * time.Minute}}
	if f.commands > 0 && len(p.Handlers) > 0 {
		s.Steps = append(s.Steps, Step{Do: "command", Verb: p.Handlers[0].Verb, Rate: f.commands, For: f.hold, Deadline: time.Minute, Background: true})
	}
	s.Steps = append(s.Steps, Step{Do: "hold", For: f.hold}, Step{Do: "drain", Within: 5 * time.Minute})
	if f.access != "" || f.cluster != "" {
		s.Steps = append(s.Steps, Step{Do: "account"})
	}
	return s
}

// run does everything between the flags and the result, which is there as soon as the swarm was.
func (d *Door) run(ctx context.Context, f *flags, profile Profile, scenario Scenario) (result *Result, err error) {
	show := &progress{w: d.Err}
	if file, ok := d.Err.(*os.File); ok {
		show.terminal = term.IsTerminal(int(file.Fd()))
	}
	p := &Player{Tiers: map[string]Tier{}, Say: show.Say}
	cfg := Config{Profile: profile, Identities: f.identities, URLs: f.urls, Dir: f.dir, Sources: f.sources,
		Log: slog.New(slog.NewTextHandler(d.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if f.cluster != "" {
		end, err := d.ownCluster(ctx, f, p)
		if err != nil {
			return nil, err
		}
		defer end()
	}
	if f.access != "" && p.Site == nil {
		access, err := ReadAccess(f.access)
		if err != nil {
			return nil, err
		}
		if p.Site, err = NewSite(ctx, access); err != nil {
			return nil, err
		}
	}
	if err := f.joinOf(ctx, p.Site, &cfg); err != nil {
		return nil, err
	}
	if p.Swarm, err = New(cfg); err != nil {
		return nil, err
	}
	var side sync.WaitGroup
	defer side.Wait()
	sctx, stop := context.WithCancel(ctx)
	defer stop()
	side.Go(func() { show.Run(sctx, p.Swarm) })
	err = p.Swarm.Run(ctx, func(ctx context.Context) error {
		end, err := p.Look(ctx, cfg.Log)
		if err != nil {
			return err
		}
		defer end()
		err = p.Play(ctx, scenario)
		result = p.Result()
		return err
	})
	return result, err
}

// joinOf fills in the join string: the one given, or a fresh one if the site is ours to administer and it is needed.
func (f *flags) joinOf(ctx context.Context, site *Site, cfg *Config) error {
	text := f.join
	if path, ok := strings.CutPrefix(text, "@"); ok {
		raw, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read join string: %w", err)
		}
		text = string(raw)
	}
	var err error
	switch {
	case text != "":
		cfg.Join, err = api.ParseJoin(text)
	case site != nil:
		cfg.Join, err = site.Join(ctx, cfg.Profile.Nodes)
	}
	if site != nil {
		cfg.Named = append(cfg.Named, site.Server)
	}
	return err
}

// ownCluster starts a cluster agent of the swarm's own, as the tier "cluster".
func (d *Door) ownCluster(ctx context.Context, f *flags, p *Player) (end func(), err error) {
	dir := f.clusterDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "skerry-swarm-cluster-"); err != nil {
			return nil, fmt.Errorf("make directory: %w", err)
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("find directory: %w", err)
	}
	c := &ClusterTier{Program: f.cluster, Dir: dir, Settings: f.settings}
	end = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		err := c.Stop(ctx)
		if f.clusterDir == "" && err == nil {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			fmt.Fprintln(d.Err, "skerry-swarm:", err)
		}
	}
	wctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err = c.Start(ctx); err == nil {
		err = c.Await(wctx)
	}
	if err == nil {
		p.Site, err = NewSite(ctx, c.Access)
	}
	if err != nil {
		end()
		return nil, err
	}
	p.Tiers["cluster"] = c
	return end, nil
}

// Look makes the views of the site, if there is one, and runs the one that has to listen until end is called. It is for
// within Swarm.Run.
func (p *Player) Look(ctx context.Context, log *slog.Logger) (end func(), err error) {
	if p.Site == nil {
		return func() {}, nil
	}
	p.Views = []account.View{&account.REST{Client: p.Site.Client, Grace: 20 * time.Second}, &account.PromQL{Client: p.Site.Client}}
	if p.Listener, err = p.Site.Listen(ctx, p.Swarm.servers, slog.New(slog.DiscardHandler)); err != nil {
		log.Warn("no MQTT view: it takes an administrator's access", agent.KeyErr, err)
		return func() {}, nil
	}
	p.Views = append(p.Views, p.Listener)
	lctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Listener.Run(lctx) }() // joined by end
	wctx, give := context.WithTimeout(ctx, time.Minute)
	defer give()
	end = func() {
		cancel()
		if err := errors.Join(<-done, p.Site.Forget(context.WithoutCancel(ctx))); err != nil {
			log.Warn("MQTT view not ended well", agent.KeyErr, err)
		}
	}
	if err := p.Listener.AwaitUp(wctx); err != nil {
		end()
		return nil, fmt.Errorf("listen to the broker: %w", err)
	}
	return end, nil
}
