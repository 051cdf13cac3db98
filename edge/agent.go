package edge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/command/verb"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/edge/k3s"
	"github.com/skerry-edge/skerry/edge/outbox"
	"github.com/skerry-edge/skerry/edge/probe"
	"github.com/skerry-edge/skerry/edge/store"
	"github.com/skerry-edge/skerry/edge/workload"
	"github.com/skerry-edge/skerry/mqtt"
)

// Agent is the node agent. New builds it, Run is called once.
type Agent struct {
	cfg      configs.Edge // as it was at the start
	src      configs.Source
	log      *slog.Logger
	level    *slog.LevelVar
	ring     *verb.Ring
	codec    *mqtt.Codec
	encoding atomic.Uint32 // mqtt.Encoding
	started  time.Time
	boot     string
	host     api.Host
	readOnly string // what that means when the state directory is read-only; empty: it is not

	clock    *agent.Clock
	store    *store.Store
	keeper   *identity.Keeper
	outbox   *outbox.Outbox
	probes   *probe.Collector
	batching *batching
	engine   *command.Engine
	streams  *mqtt.Mux
	line     *line
	settings *settings
	verbs    *verbs
	updates  *updates
	args     []string // flags of this process, without a join string

	runtimes  func(cfg configs.Workloads) (*runtimes, error) // tests set it
	workloads *workload.Engine
	closers   []io.Closer // runtimes
	k3s       *k3s.Agent  // nil: not allowed

	topics    atomic.Pointer[mqtt.Topics]
	epoch     atomic.Uint64
	scrapes   atomic.Uint64
	desired   atomic.Pointer[api.Revision]
	policies  atomic.Pointer[[]api.Policy] // of the desired document
	obeys     obedience
	built     atomic.Bool                       // what needs the identity is there
	reportDue chan struct{}                     // holds one
	resendDue chan struct{}                     // holds one
	birthDue  chan struct{}                     // holds one
	told      atomic.Pointer[[sha256.Size]byte] // fingerprint of the last birth
	restart   context.CancelCauseFunc
}

// errRestart is the cause of a stop after which the program starts anew.
var errRestart = errors.New("restart was asked for")

// New checks cfg. src is where it came from: settings that are changed remotely are laid over it. The log goes to w and,
// its end, into memory for log.tail.
func New(cfg configs.Edge, src configs.Source, w io.Writer) (*Agent, error) {
	a := &Agent{cfg: cfg, src: src, ring: &verb.Ring{}, level: &slog.LevelVar{}, started: time.Now(), boot: agent.BootID(),
		reportDue: make(chan struct{}, 1), resendDue: make(chan struct{}, 1), birthDue: make(chan struct{}, 1)}
	a.runtimes = a.ownRuntimes
	if err := a.level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	log, err := agent.NewLogger(io.MultiWriter(agent.ForJournal(w), a.ring), a.level, cfg.Log.Format)
	if err != nil {
		return nil, err
	}
	a.log = log
	if a.codec, err = mqtt.NewCodec(); err != nil {
		return nil, err
	}
	a.updates, err = newUpdates(a, nil)
	return a, err
}

// Memory settings of a small device: a heap of half a MiB is collected when it has 0.8, and the runtime
// gives back what it does not use. Measured with test/bench: half the RSS of the defaults, for a tenth of a percent of
// one core.
const (
	gcPercent   = 20
	memoryLimit = 32 << 20
)

// cores is how many processors run Go code at once: an agent must not compete with the machine's work, and hands over
// between its goroutines without waking another core. GOMAXPROCS in the environment overrides it.
const cores = 1

// Run works until ctx ends. When the agent was told to restart, Run replaces the process and does not return.
func (a *Agent) Run(ctx context.Context) error {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(cores)
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	life, restart := context.WithCancelCause(ctx)
	defer restart(nil)
	a.restart = restart
	err := a.serve(life)
	if !errors.Is(context.Cause(life), errRestart) || ctx.Err() != nil { // told to end while it was ending for a restart
		return err
	}
	if err != nil { // a part that would not stop must not cost the node its agent
		a.log.Error("not everything stopped; restarting all the same", agent.KeyErr, err)
	}
	return a.reexec()
}

func (a *Agent) serve(ctx context.Context) error {
	a.clock = agent.NewClock(agent.BuildTime(), agent.ClockSource{})
	a.host = probe.HostInfo(a.cfg.Telemetry.Proc, a.cfg.Telemetry.Sys)
	id, err := identity.Load(a.cfg.Dir)
	enrolled := err == nil && id.Enrolled() // the keeper tells of an error
	if enrolled {
		a.clock.Raise(id.Leaf().NotBefore)
	}
	st, err := a.openStore(enrolled)
	if err != nil {
		return err
	}
	defer a.closeStore(st)
	a.store = st
	if st.SetAside() != "" {
		a.log.Error("state was damaged and is set aside; the journal begins anew", agent.KeyPath, st.SetAside())
	}
	floor, err := st.Floor()
	if err != nil {
		return err
	}
	a.clock.Raise(floor)
	if err := a.enrolled(ctx); err != nil || a.keeper.Current() == nil {
		return err
	}
	return nil
}

// enrolled runs the agent under its identity: the keeper first, everything else once there is a certificate.
func (a *Agent) enrolled(ctx context.Context) error {
	labels, err := labelMap(a.cfg.Labels)
	if err != nil {
		return err
	}
	a.keeper, err = identity.NewKeeper(identity.KeeperConfig{Dir: a.cfg.Dir, Node: a.cfg.Node, Labels: labels, Log: a.log,
		Join:   func() (*api.Join, error) { return joinOf(a.cfg) },
		Client: &identity.Client{Clock: a.clock, Host: a.host}, OnRenew: a.renewed})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.cfg.RuntimeDir, 0o700); err != nil {
		return fmt.Errorf("create runtime directory: %w", err)
	}
	// Ready to the service manager: a device that waits for a person or a network is doing its duty.
	a.tellManager("READY=1\nSTATUS=enrolling")
	defer func() {
		if !errors.Is(context.Cause(ctx), errRestart) { // or it would be killed after TimeoutStopSec, whatever it is by then
			a.tellManager("STOPPING=1")
		}
	}()
	g := &agent.Group{Log: a.log}
	g.Stage("status", newStatusServer(a.cfg.RuntimeDir, a.status), agent.RunFunc(a.watchdog))
	g.Stage("identity", a.keeper)
	g.Stage("agent", agent.RunFunc(a.work))
	return g.Run(ctx)
}

// work builds what needs the identity, and runs it: the outbox under the link, and what speaks on top.
func (a *Agent) work(ctx context.Context) error {
	id := a.keeper.Current()
	topics, err := mqtt.NewTopics(id.Root, id.Cluster)
	if err != nil {
		return err
	}
	a.topics.Store(&topics)
	defer func() {
		for _, c := range a.closers {
			_ = c.Close() // it stops watching; containers go on
		}
	}()
	if err := a.build(id); err != nil {
		return err
	}
	g := &agent.Group{Log: a.log}
	a.built.Store(true)
	a.renewed(id, a.keeper.Current()) // meanwhile: an expired certificate is renewed at once
	g.Stage("outbox", agent.RunFunc(a.keepOutbox))
	g.Stage("workloads", a.workloads, agent.RunFunc(a.keepK3s)) // need no link, and outlive it
	g.Stage("link", a.line)
	g.Stage("commands", a.engine) // what it interrupts at the stop still goes out
	g.Stage("work", agent.RunFunc(a.measureOn), a.settings, a.updates, agent.RunFunc(a.keepTime), agent.RunFunc(a.trim), agent.RunFunc(a.reporter),
		agent.RunFunc(a.reannouncer), agent.RunFunc(a.resender), agent.RunFunc(a.announceStart))
	return errors.Join(g.Run(ctx), a.closeOutbox()) // what is not acknowledged goes to flash: a reboot may follow
}

func (a *Agent) build(id *identity.Identity) error {
	var err error
	if a.settings, err = newSettings(a); err != nil {
		return err
	}
	cfg := a.settings.effective()
	enc, err := mqtt.ParseEncoding(cfg.MQTT.Encoding)
	if err != nil {
		return err
	}
	a.encoding.Store(uint32(enc))
	if err := a.openOutbox(cfg); err != nil {
		return err
	}
	a.streams = mqtt.NewMux(a.sendFrame)
	if err := a.buildProbes(cfg); err != nil {
		return err
	}
	if err := a.buildWorkloads(); err != nil {
		return err
	}
	if err := a.buildK3s(); err != nil {
		return err
	}
	if a.verbs, err = newVerbs(a); err != nil {
		return err
	}
	a.engine, err = command.New(command.Config{Node: id.Node, DB: a.store.DB(), Clock: a.clock, Verbs: a.verbs.list, Log: a.log, OnDamage: a.journalDamaged,
		Forgot: a.store.Forgot, Concurrency: cfg.Command.Concurrency, BootID: a.boot}, a)
	if err != nil {
		return err
	}
	if err := a.loadClaim(); err != nil {
		return err
	}
	if err := a.loadDesired(id); err != nil {
		return err
	}
	a.line = newLine(a.newLink)
	_, err = a.line.use(cfg)
	return err
}

// keepTime keeps the clock floor; a full disk must not stop the agent.
func (a *Agent) keepTime(ctx context.Context) error {
	return keepFloor(ctx, a.clock, func(t time.Time) error {
		if err := a.store.SetFloor(t); err != nil {
			a.log.Warn("clock floor not kept", agent.KeyErr, err)
		}
		return nil
	})
}

// watchdog answers the service manager as long as the status can be told, which takes every lock that matters.
func (a *Agent) watchdog(ctx context.Context) error {
	return agent.Watchdog(ctx, func() error {
		a.status()
		return nil
	})
}

// tellManager tells the service manager, if there is one, how the agent is.
func (a *Agent) tellManager(state string) {
	if err := agent.Notify(state); err != nil {
		a.log.Warn("service manager does not listen", agent.KeyErr, err)
	}
}

func (a *Agent) closeStore(st *store.Store) {
	if err := st.Close(); err != nil {
		a.log.Error("state not closed", agent.KeyErr, err)
	}
}

// event puts an event into the outbox.
func (a *Agent) event(class api.Class, kind, object, message string) {
	if err := a.outbox.PutEvent(class, kind, object, message, nil); err != nil {
		a.log.Warn("event not kept", agent.KeyReason, message, agent.KeyErr, err)
	}
}
