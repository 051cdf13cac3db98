package scale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/test/fault"
	"github.com/skerry-edge/skerry/test/swarm"
)

// Config is how a site is made.
type Config struct {
	Nodes    int
	Cadence  time.Duration
	Series   int
	Rate     float64 // nodes started a second
	Program  string  // skerry-cluster
	Dir      string  // keeps the cluster agent's state and the certificates of the nodes; absolute
	Settings []string
	Runtimes []string // that the nodes announce
	CPU      int      // of the cluster agent; below 0: any
	Memory   int64    // its limit in bytes; 0: none
	Loss     float64
	Prefix   string // of the network namespaces, when there is Loss
	Say      func(format string, args ...any)
}

// Hosts are those of the network with losses: this process is in the first.
func Hosts() []fault.Host {
	return []fault.Host{
		{Name: "crowd", Addrs: []fault.Addr{{Name: "crowd", IP: netip.AddrFrom4([4]byte{10, 78, 0, 30})}}},
		{Name: "cluster", Addrs: []fault.Addr{{Name: "cluster", IP: netip.AddrFrom4([4]byte{10, 78, 0, 10})}}},
	}
}

// sources is from how many addresses the nodes connect: a third of the ports of each stays free for 10,000 nodes, and
// the enrolment service takes 20 a second from each.
const sources = 50

// site is one cluster agent and the swarm that loads it.
type site struct {
	cfg     Config
	tier    *swarm.ClusterTier
	cage    *cage
	network *fault.Network
	player  *swarm.Player
	watch   *watch
	work    sync.WaitGroup

	mu  sync.Mutex
	pid int
}

// with starts a cluster agent, has the nodes enrol, and runs script while both are there.
func with(ctx context.Context, cfg Config, script func(ctx context.Context, s *site) error) (err error) {
	s := &site{cfg: cfg}
	s.watch = &watch{pid: func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.pid
	}}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		err = errors.Join(err, s.close(ctx))
	}()
	if err := s.limits(); err != nil {
		return err
	}
	if cfg.Loss > 0 {
		if s.network, err = fault.NewNetwork(cfg.Prefix, Hosts()); err != nil {
			return err
		}
		s.work.Go(func() { s.network.Run(ctx) })
		s.tier.Host = Hosts()[1].Addrs[0].IP.String()
		s.tier.Begin = func(start func() error) error { return s.network.In("cluster", start) }
	}
	wctx, give := context.WithTimeout(ctx, time.Minute)
	defer give()
	if err := s.tier.Start(ctx); err != nil {
		return err
	}
	if err := s.tier.Await(wctx); err != nil {
		return err
	}
	s.work.Go(func() { s.watch.Run(ctx) })
	return s.crowd(ctx, script)
}

func (s *site) limits() error {
	cfg := s.cfg
	s.tier = &swarm.ClusterTier{Program: cfg.Program, Dir: filepath.Join(cfg.Dir, "cluster"), Settings: cfg.Settings,
		Started: func(pid int) error {
			s.mu.Lock()
			s.pid = pid
			s.mu.Unlock()
			return s.cage.add(pid)
		}}
	if cfg.CPU >= 0 {
		s.tier.Prefix = []string{"taskset", "-c", strconv.Itoa(cfg.CPU)}
	}
	if cfg.Memory == 0 {
		return nil
	}
	s.tier.Env = []string{fmt.Sprintf("GOMEMLIMIT=%d", cfg.Memory*9/10)} // the rest is page cache, stacks of the kernel, and air
	var err error
	s.cage, err = newCage(cfg.Memory)
	return err
}

// crowd makes the swarm and runs script within it.
func (s *site) crowd(ctx context.Context, script func(ctx context.Context, s *site) error) error {
	rest, err := swarm.NewSite(ctx, s.tier.Access)
	if err != nil {
		return err
	}
	join, err := rest.Join(ctx, s.cfg.Nodes)
	if err != nil {
		return err
	}
	p := swarm.DefaultProfile()
	p.Nodes, p.Cadence, p.Series = s.cfg.Nodes, s.cfg.Cadence, s.cfg.Series
	p.Handlers = []swarm.Handler{{Verb: "work"}}
	p.Workloads.Runtimes = s.cfg.Runtimes
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	crowd, err := swarm.New(swarm.Config{Profile: p, Join: join, Identities: filepath.Join(s.cfg.Dir, "identities"), URLs: rest.Status.MQTT,
		Sources: sources, Log: log})
	if err != nil {
		return err
	}
	s.player = &swarm.Player{Swarm: crowd, Site: rest, Tiers: map[string]swarm.Tier{"cluster": s.tier}}
	return crowd.Run(ctx, func(ctx context.Context) error {
		end, err := s.player.Look(ctx, log)
		if err != nil {
			return err
		}
		defer end()
		return script(ctx, s)
	})
}

// ramp starts every node and waits until all are online.
func (s *site) ramp(ctx context.Context) error {
	within := 5*time.Minute + time.Duration(float64(s.cfg.Nodes)/s.cfg.Rate*float64(time.Second))
	s.cfg.Say("%d nodes connect, %g a second", s.cfg.Nodes, s.cfg.Rate)
	return s.player.Play(ctx, swarm.Scenario{Name: "ramp", Limit: within, Steps: []swarm.Step{{Do: "ramp", Rate: s.cfg.Rate},
		{Do: "await", Share: 1, Within: within}}})
}

// account drains the outboxes and compares every sample with what is stored.
func (s *site) account(ctx context.Context) error {
	s.cfg.Say("drain, and account for every sample")
	play := func(step swarm.Step) error {
		return s.player.Play(ctx, swarm.Scenario{Name: "account", Limit: time.Hour, Steps: []swarm.Step{step}})
	}
	if err := play(swarm.Step{Do: "drain", Within: 10 * time.Minute}); err != nil {
		return err
	}
	s.lose(0) // what was lost has been lost by now; a million answers are better read over a sound line
	return play(swarm.Step{Do: "account"})
}

// lose has a share of all packets lost, both ways, on a network that can.
func (s *site) lose(share float64) {
	if s.network != nil {
		s.network.Disturb("cluster", fault.Trouble{Loss: share}, fault.Trouble{Loss: share})
	}
}

func (s *site) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := s.tier.Stop(ctx)
	if s.network != nil {
		err = errors.Join(err, s.network.Close())
	}
	s.work.Wait()
	return errors.Join(err, s.cage.close())
}
