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
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"github.com/skerry-edge/skerry/agent"
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
       skerry-swarm --print-profile [flags]     what the nodes are like, as --profile reads it
       skerry-swarm version

The nodes enrol, connect, and report for --for. Then their outboxes are drained. With --access commands can be given, and
at the end every sample and every command is accounted for. Nothing but the given URLs is ever connected to.

flags:
`

// Door is the command line of skerry-swarm.
type Door struct {
	Out, Err io.Writer
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
	if f.print {
		return d.print(&profile)
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
	defer func() { d.leave(f, p.Swarm.Enrolled(), profile.Prefix) }()
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

// leave tells what stays on the cluster agent, also of a run that somebody ended.
func (d *Door) leave(f *flags, nodes int, prefix string) {
	if nodes == 0 || f.cluster != "" && f.clusterDir == "" { // nothing, or it goes with its cluster agent
		return
	}
	keep := "; the next run needs another --prefix until then"
	if f.identities != "" {
		keep = ", or use them again with --identities " + f.identities
	}
	fmt.Fprintf(d.Err, "%d nodes stay enrolled; take them away with: skerry node remove -l swarm=%s --yes%s\n", nodes, prefix, keep)
}

// print writes a profile as --profile reads it.
func (d *Door) print(p *Profile) int {
	text, err := yaml.Marshal(p)
	if err == nil {
		_, err = d.Out.Write(text)
	}
	if err != nil {
		fmt.Fprintln(d.Err, "skerry-swarm:", err)
		return ExitFailed
	}
	return ExitOK
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
