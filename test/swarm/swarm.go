package swarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Config is what a swarm is made of.
type Config struct {
	Profile    Profile
	Join       api.Join // zero: every certificate is in Identities
	Identities string   // directory of certificates; those that are missing are kept there; empty: none are kept
	URLs       []string // brokers; empty: those that the cluster agent names, if they are on a machine of Join or Named
	Named      []string // other URLs that the user gave
	Dir        string   // for outboxes on disk and the commands; empty: a temporary one, on a tmpfs where there is one
	Sources    int      // how many addresses of 127.0.0.0/8 to connect from, where the peer is there too; 0 or 1: the usual one
	Log        *slog.Logger

	// Dial connects a node to a broker in place of the network of this process; nil: that.
	Dial func(ctx context.Context, node int, network, addr string) (net.Conn, error)
}

// Swarm is many nodes. New builds it, Run is called once; the other methods are for while it runs, and safe for
// concurrent use.
type Swarm struct {
	cfg      Config
	clock    *agent.Clock
	codec    *mqtt.Codec
	encoding mqtt.Encoding
	quiet    *slog.Logger // of thousands of links
	started  time.Time
	boot     string
	series   []string
	handlers []command.Verb
	verbs    []api.Verb

	*papers  // once enrolled
	topics   mqtt.Topics
	dir      string
	db       *bbolt.DB // of all engines
	life     context.Context
	die      context.CancelCauseFunc
	work     sync.WaitGroup
	enrolled atomic.Int64
	calm     atomic.Bool // no churn, nobody sleeps
	hushed   atomic.Bool // nobody measures

	stats    stats
	commands account.Commands
	schedule schedule

	mu     sync.Mutex
	nodes  []*node // those that were started
	base   int64   // RSS before
	from   time.Time
	orders map[string]*account.Order
}

// New checks cfg.
func New(cfg Config) (*Swarm, error) {
	if err := cfg.Profile.Validate(); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if cfg.Log == nil {
		return nil, errors.New("swarm: wanted a log")
	}
	if cfg.Sources < 0 || cfg.Sources > maxSources {
		return nil, fmt.Errorf("swarm: sources %d: wanted 0 to %d", cfg.Sources, maxSources)
	}
	s := &Swarm{cfg: cfg, clock: agent.NewClock(agent.BuildTime(), agent.ClockSource{}), quiet: slog.New(slog.DiscardHandler),
		started: time.Now(), boot: agent.BootID(), orders: map[string]*account.Order{},
		schedule: schedule{wake: make(chan struct{}, 1), every: cfg.Profile.Cadence}}
	var err error
	if s.codec, err = mqtt.NewCodec(); err != nil {
		return nil, err
	}
	if s.encoding, err = mqtt.ParseEncoding(cfg.Profile.Encoding); err != nil {
		return nil, err
	}
	for i := range cfg.Profile.Series {
		s.series = append(s.series, account.SeriesName(i))
	}
	for _, h := range cfg.Profile.Handlers {
		v := &verb{h, &s.commands}
		s.handlers = append(s.handlers, v)
	}
	return s, nil
}

// Run enrols the nodes, runs script, and ends everything: nodes that are connected say goodbye.
func (s *Swarm) Run(ctx context.Context, script func(ctx context.Context) error) error {
	s.life, s.die = context.WithCancelCause(ctx)
	defer s.die(nil)
	var err error
	if s.papers, err = enrol(s.life, &s.cfg, s.clock, &s.enrolled); err != nil {
		return err
	}
	if s.topics, err = mqtt.NewTopics(s.root, s.cluster); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	defer s.close()
	debug.FreeOSMemory()
	s.mu.Lock()
	s.base = residentBytes()
	s.mu.Unlock()
	s.work.Go(func() { s.schedule.Run(s.life) })
	s.work.Go(func() { s.disturb(s.life) })
	err = script(s.life)
	if cause := context.Cause(s.life); cause != nil && ctx.Err() == nil {
		err = errors.Join(cause, err)
	}
	s.die(nil)
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		_ = n.outbox.Close() // what it still holds was told in the figures
	}
	return err
}

// open makes the place for outboxes and commands, and learns what the engines say of their verbs.
func (s *Swarm) open() error {
	parent := s.cfg.Dir
	if parent == "" {
		parent = os.TempDir()
		if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && s.cfg.Profile.Outbox.Store == "memory" {
			parent = "/dev/shm"
		}
	}
	var err error
	if s.dir, err = os.MkdirTemp(parent, "skerry-swarm-"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	s.db, err = bbolt.Open(filepath.Join(s.dir, "commands.db"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
		NoSync: s.cfg.Profile.Outbox.Store == "memory"})
	if err != nil {
		return errors.Join(fmt.Errorf("open command journals: %w", err), os.RemoveAll(s.dir))
	}
	engine, err := command.New(command.Config{Node: "none", DB: s.db, Clock: s.clock, Verbs: s.handlers, Log: s.quiet, BootID: s.boot}, &node{})
	if err != nil {
		return err
	}
	s.verbs = engine.Verbs()
	return nil
}

func (s *Swarm) close() {
	if err := errors.Join(s.db.Close(), os.RemoveAll(s.dir)); err != nil {
		s.cfg.Log.Warn("swarm left something behind", agent.KeyErr, err)
	}
}

// note takes the end of a part. One that failed ends the swarm.
func (s *Swarm) note(err error) {
	if err != nil && s.life.Err() == nil {
		s.die(err)
	}
}

// Start starts count nodes more, rate a second, and returns when the last is started, not when it is online.
func (s *Swarm) Start(ctx context.Context, count int, rate float64) error {
	s.mu.Lock()
	first := len(s.nodes)
	if s.from.IsZero() {
		s.from = time.Now().Add(-time.Second)
	}
	s.mu.Unlock()
	if count == 0 {
		count = s.cfg.Profile.Nodes - first
	}
	if first+count > s.cfg.Profile.Nodes {
		return fmt.Errorf("start %d nodes: %d of %d are started", count, first, s.cfg.Profile.Nodes)
	}
	begin := time.Now()
	for i := range count {
		ahead := time.Duration(float64(i)/rate*float64(time.Second)) - time.Since(begin)
		if ahead > 0 && !agent.Wait(ctx, ahead) {
			return ctx.Err()
		}
		n := &node{swarm: s, index: first + i, id: name(s.cfg.Profile.Prefix, first+i), cert: s.certs[first+i]}
		if err := n.prepare(s.life); err != nil {
			return err
		}
		s.mu.Lock()
		s.nodes = append(s.nodes, n)
		s.mu.Unlock()
		s.stats.started.Add(1)
		s.schedule.add(n)
	}
	return nil
}

// all returns the nodes that were started.
func (s *Swarm) all() []*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[:len(s.nodes):len(s.nodes)]
}

// Enrolled is how many nodes have their certificates.
func (s *Swarm) Enrolled() int { return int(s.enrolled.Load()) }

// ResetLatencies forgets the latencies so far: what follows is of a new phase.
func (s *Swarm) ResetLatencies() {
	s.stats.ingest.Reset()
	s.stats.ack.Reset()
}

// Figures looks at everything.
func (s *Swarm) Figures() Figures {
	f := Figures{Nodes: s.cfg.Profile.Nodes, Started: int(s.stats.started.Load()), Online: int(s.stats.online.Load()), Made: s.stats.made.Load(),
		Acked: s.stats.acked.Load(), PutFailed: s.stats.putFailed.Load(), Attempts: s.stats.attempts.Load(), Resets: s.stats.resets.Load(),
		Leaves: s.stats.leaves.Load(), Sleeps: s.stats.sleeps.Load(), RSSBytes: residentBytes(), Goroutines: runtime.NumGoroutine()}
	f.Commands, f.Effects = s.commands.Count()
	now := api.At(s.clock.Now())
	s.stats.mu.Lock()
	f.BytesIn, f.BytesOut, f.Reconnects = s.stats.in, s.stats.out, s.stats.reconnects
	s.stats.mu.Unlock()
	away := 0
	for _, n := range s.all() {
		b := n.outbox.Backlog()
		f.Backlog += b.Batches
		f.Bytes += b.Bytes
		add(&f.Dropped, b.Dropped)
		if b.Oldest > 0 && b.Batches > 0 {
			f.Lag = max(f.Lag, Seconds(now.Time().Sub(b.Oldest.Time())))
		}
		if l := n.link.Load(); l != nil && l != n.past.Load() {
			st := l.Status()
			f.BytesIn += st.BytesIn
			f.BytesOut += st.BytesOut
			f.Reconnects += st.Reconnects
		}
		n.mu.Lock()
		if n.away != 0 && !n.up.Load() {
			away++
		}
		n.mu.Unlock()
	}
	f.Connecting = max(0, f.Started-f.Online-away)
	s.mu.Lock()
	f.BaseBytes = s.base
	s.mu.Unlock()
	return f
}

func add(sum *api.Dropped, d api.Dropped) {
	sum.Alarms += d.Alarms
	sum.Events += d.Events
	sum.Batches += d.Batches
	sum.Samples += d.Samples
	sum.Downsampled += d.Downsampled
}

// Truth is everything that the nodes know. It is for after Drain: nothing may be on its way.
func (s *Swarm) Truth() *account.Truth {
	t := &account.Truth{To: time.Now(), Commands: s.commands.All()}
	for _, n := range s.all() {
		b := n.outbox.Backlog()
		n.mu.Lock()
		t.Nodes = append(t.Nodes, account.Node{ID: n.id, Index: n.index, Online: n.up.Load(), Telemetry: &n.truth, Dropped: b.Dropped, Held: b.Batches,
			Desired: n.desired.Generation})
		n.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.From = s.from
	for _, o := range s.orders {
		t.Orders = append(t.Orders, *o)
	}
	return t
}
