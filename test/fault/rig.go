package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cli"
	"github.com/skerry-edge/skerry/test/skew"
	"github.com/skerry-edge/skerry/test/swarm"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// hub is the host of the harness: the crowd, the proxy and those who order live there, each with an address.
const hub = "hub"

// hosts is the world. All of it lies in namespaces, so that every run has the same addresses.
func hosts() []Host {
	at := func(name string, last byte) Addr { return Addr{name, netip.AddrFrom4([4]byte{10, 77, 0, last})} }
	return []Host{
		{hub, []Addr{at(tierControl, 40), at(tierCrowd, 30), at(tierProxy, 50)}},
		{tierCluster, []Addr{at(tierCluster, 10)}},
		{tierEdge1, []Addr{at(tierEdge1, 21)}},
		{tierEdge2, []Addr{at(tierEdge2, 22)}},
	}
}

// addrOf finds the host and the address of a name.
func addrOf(name string) (host string, addr netip.Addr) {
	for _, h := range hosts() {
		for _, a := range h.Addrs {
			if a.Name == name {
				return h.Name, a.IP
			}
		}
	}
	return "", netip.Addr{}
}

const (
	mqttPort = "8883"
	httpPort = "8443"
	echoPort = "7"
	tickPort = "9100"
)

// RigConfig is what a rig is made of.
type RigConfig struct {
	Prefix string // of the namespaces, which are there already; this process is in the hub's
	Bin    string // directory of skerry-cluster and skerry-edge
	Dir    string // for logs and whatever else is kept
	Clocks []string
	Kube   bool // a control plane is beside the site
	Say    func(format string, args ...any)
}

// Rig is a site: a cluster agent, two node agents, and the network between them and this process.
type Rig struct {
	cfg     RigConfig
	network *Network
	tiers   map[string]*Process
	ticks   map[string]*ticker // by node agent
	proxy   *Proxy
	access  cli.Context
	site    *swarm.Site
	life    context.Context
	end     context.CancelFunc
	work    sync.WaitGroup
	kube    *kubeTier           // nil: Kubernetes is not in the picture
	kept    map[string]net.Conn // of pingKept
	closers []io.Closer

	mu      sync.Mutex
	wounds  map[wound]time.Time // files that were damaged in this round, and when last
	lost    account.Samples     // that damage took out of the telemetry's log in this round
	hurtLog bool                // by damage that can be seen
	took    map[string]ticks    // that damage took out of node agents' outboxes in this round; true: by damage that can be seen
	harms   map[string][]*harm  // to outbox.db in this round, by node agent
	alias   map[string]string   // ids of commands by the names that scripts were given
	blames  []string            // what faults themselves found wrong
}

// NewRig builds everything and starts it. Close ends it.
func NewRig(ctx context.Context, cfg RigConfig) (r *Rig, err error) {
	r = &Rig{cfg: cfg, tiers: map[string]*Process{}, ticks: map[string]*ticker{}, kept: map[string]net.Conn{}, wounds: map[wound]time.Time{}, lost: account.Samples{},
		took: map[string]ticks{}, harms: map[string][]*harm{}}
	r.life, r.end = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.network, err = NewNetwork(cfg.Prefix, hosts()); err != nil {
		return r, err
	}
	r.work.Go(func() { r.network.Run(r.life) })
	for _, tier := range agents() {
		if err := r.prepare(tier); err != nil {
			return r, err
		}
	}
	if err := r.echo(); err != nil {
		return r, err
	}
	if cfg.Kube {
		if err := r.startKube(ctx); err != nil {
			return r, err
		}
	}
	if err := r.startCluster(ctx); err != nil {
		return r, err
	}
	if r.proxy, err = r.startProxy(); err != nil {
		return r, err
	}
	for _, edge := range []string{tierEdge1, tierEdge2} {
		if err := r.startEdge(ctx, edge); err != nil {
			return r, err
		}
	}
	return r, nil
}

// prepare mounts a tier's disk and makes its process.
func (r *Rig) prepare(tier string) error {
	disk := filepath.Join(r.cfg.Dir, tier)
	if err := os.MkdirAll(disk, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", r.diskBytes(tier))); err != nil {
		return fmt.Errorf("mount a small disk for %s: %w", tier, err)
	}
	p := &Process{Name: tier, Log: filepath.Join(r.cfg.Dir, tier+".log"), Disk: disk, network: r.network}
	for _, c := range r.cfg.Clocks {
		if c == tier {
			p.shift = filepath.Join(r.cfg.Dir, tier+".shift")
			var err error
			if p.Clock, err = skew.OpenShift(p.shift); err != nil {
				return err
			}
			p.Clock.Set(0)
			r.closers = append(r.closers, p.Clock)
		}
	}
	r.tiers[tier] = p
	return nil
}

func (r *Rig) process(tier string) *Process { return r.tiers[tier] }

func (r *Rig) startCluster(ctx context.Context) error {
	p := r.process(tierCluster)
	_, addr := addrOf(tierCluster)
	p.Program = filepath.Join(r.cfg.Bin, "skerry-cluster")
	p.Args = []string{"run"}
	for _, s := range append([]string{"cluster=fault", "dir=" + r.clusterDir(), "advertise=" + addr.String(), "mqtt.listen=" + addr.String() + ":" + mqttPort,
		"http.listen=" + addr.String() + ":" + httpPort, "log.level=info", "commands.grace=5s"}, r.kubeSettings()...) {
		p.Args = append(p.Args, "--set", s)
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return until(ctx, "the cluster agent serves", func() (err error) {
		if !p.Running() {
			cancel()
			return fmt.Errorf("it has ended: %s", lastLine(p.Log))
		}
		if r.access, err = swarm.ReadAccess(filepath.Join(r.clusterDir(), "admin.yaml")); err != nil {
			return err
		}
		r.site, err = swarm.NewSite(ctx, r.access)
		return err
	})
}

func (r *Rig) clusterDir() string { return filepath.Join(r.process(tierCluster).Disk, "state") }

// startEdge enrols a node agent. The script that its commands run notes each side effect where no full disk can lose it.
func (r *Rig) startEdge(ctx context.Context, name string) error {
	p := r.process(name)
	var t api.Token
	if err := r.site.Client.Post(ctx, "/v1/tokens", api.TokenRequest{TTL: "24h", MaxUses: 1}, &t); err != nil {
		return fmt.Errorf("make join token: %w", err)
	}
	tick, err := r.startTicker(name)
	if err != nil {
		return err
	}
	r.ticks[name] = tick
	script := fmt.Sprintf("#!/bin/sh\necho \"$1\" >>%s\nsleep 0.2\n", r.effects(name))
	if err := os.WriteFile(r.script(name), []byte(script), 0o700); err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	broker := tierCluster
	if name == tierEdge2 {
		broker = tierProxy
	}
	_, addr := addrOf(broker)
	config := strings.NewReplacer("NODE", name, "JOIN", t.Join, "DISK", p.Disk, "BROKER", addr.String()+":"+mqttPort, "TICK", tickPort,
		"SCRIPT", r.script(name)).Replace(edgeConfig)
	path := filepath.Join(r.cfg.Dir, name+".yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	p.Program, p.Args = filepath.Join(r.cfg.Bin, "skerry-edge"), []string{"run", "--config", path}
	if err := p.Start(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return until(ctx, name+" is online", func() error {
		if !p.Running() {
			cancel()
			return fmt.Errorf("it has ended: %s", lastLine(p.Log))
		}
		return r.online(ctx, name)
	})
}

// edgeConfig has the clocks of a node agent shortened; docs/testing.md tells what they are otherwise.
const edgeConfig = `
node: NODE
join: "JOIN"
dir: DISK/state
runtime_dir: DISK/run
log: {level: info}
mqtt: {servers: ["mqtts://BROKER"], keep_alive: 10s, backoff_max: 2s, stable_after: 5s}
telemetry:
  interval: 1s
  disabled: [filesystem, diskstats, netdev, hwmon, thermal_zone]
  user:
    - {name: tick, kind: prometheus, url: "http://127.0.0.1:TICK/metrics", interval: 1s, timeout: 500ms}
outbox: {max_bytes: 4MiB, memory_bytes: 64KiB, spill_after: 5s, replay_bytes_per_second: 256KiB}
command:
  concurrency: 4
  exec: [{name: append, argv: [SCRIPT], args: ['[a-z0-9]+'], timeout: 20s}]
`

func (r *Rig) effects(edge string) string { return filepath.Join(r.cfg.Dir, edge+".effects") }
func (r *Rig) script(edge string) string  { return filepath.Join(r.cfg.Dir, edge+".sh") }

// online is nil when the cluster agent says that a node is.
func (r *Rig) online(ctx context.Context, name string) error {
	var n api.Node
	if err := r.site.Client.Get(ctx, "/v1/nodes/"+name, &n); err != nil {
		return err
	}
	if n.Presence != api.PresenceOnline {
		return fmt.Errorf("it is %s", n.Presence)
	}
	return nil
}

// Close ends everything. The disks vanish with the mount namespace of this process, or are unmounted.
func (r *Rig) Close() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.life), 30*time.Second)
	defer cancel()
	var errs []error
	for _, p := range r.tiers {
		errs = append(errs, p.Signal(syscall.SIGCONT), p.Kill(ctx))
	}
	errs = append(errs, r.endContainers())
	r.end()
	for _, c := range r.kept {
		errs = append(errs, c.Close())
	}
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	if r.network != nil {
		errs = append(errs, r.network.Close())
	}
	for _, p := range r.tiers {
		errs = append(errs, syscall.Unmount(p.Disk, syscall.MNT_DETACH))
	}
	r.work.Wait()
	return errors.Join(errs...)
}
