package workload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// Config is what an Engine needs.
type Config struct {
	Runtimes   []Runtime // the preferred one first; none: every workload is refused
	Dir        string    // volumes and logs of workloads, absolute
	MemoryDir  string    // the same for what must not touch flash: a tmpfs, absolute
	HostPaths  []string  // that volumes may show, with what is beneath
	Privileged bool
	Off        bool  // everything is refused, and what runs is stopped
	LogBytes   int64 // of one log, before it is rotated
	Boot       string
	DB         *bbolt.DB
	Now        func() time.Time
	Log        *slog.Logger
	Unseal     func(w *api.Workload) (*api.Secrets, error) // of one that has something sealed
	// Needed names the runtime that a present image needs; "" when any but those that some image needs will do. nil: they all do.
	Needed func(digest string) string
	// Usage is how many bytes of storage what is below a folder takes; for what is not there it is 0.
	Usage func(ctx context.Context, dir string) (uint64, error)
	// OnChange is told when Status would tell something new. It must not block.
	OnChange func()
}

// Engine has the node run the workloads that are wanted. Safe for concurrent use; Run is called once.
type Engine struct {
	cfg    Config
	node   Node
	maker  maker
	keeper keeper
	ready  chan struct{}
	events chan func() // for the loop to do
	dueNow chan struct{}

	// Of the loop alone.
	wg      sync.WaitGroup
	sources map[string]*source // by runtime
	entries map[string]*entry  // by workload
	order   []string           // as wanted
	watches map[string]*watching
	told    bool // what is wanted is known
	unkept  bool // something could not be written down
	first   bool // the first look is over
	// measuring: volumes are being measured. measured is when that was last begun.
	measuring bool
	measured  time.Time

	mu     sync.Mutex
	wanted []api.Workload // not yet looked at
	fresh  bool           // wanted is
	shown  shown
}

// entry is one workload that is wanted, or that something is left of.
type entry struct {
	name    string
	want    *api.Workload
	hash    string
	refuse  *Refusal
	runtime string
	mem     Memory
	kept    bool // mem is on flash
	trials  map[string]Trial
	busy    map[string]*work // by container's ID, "" for the workload
	laid    string           // the form whose files are in the volumes; "": not known
	// layFailed is when they could not be laid; zero: they could.
	layFailed time.Time
	// outgrown: which volume of the form that is wanted has become larger than it may, for people; "": none.
	outgrown string
}

// New checks cfg and reads what was remembered.
func New(cfg Config) (*Engine, error) {
	if cfg.DB == nil || cfg.Now == nil || cfg.Log == nil || cfg.Unseal == nil || cfg.Usage == nil || cfg.OnChange == nil {
		return nil, errors.New("workloads: wanted a database, a clock, a log, ways to unseal and to measure, and one who is told")
	}
	if !filepath.IsAbs(cfg.Dir) || !filepath.IsAbs(cfg.MemoryDir) {
		return nil, fmt.Errorf("workloads: directories %q and %q: wanted absolute paths", cfg.Dir, cfg.MemoryDir)
	}
	e := &Engine{cfg: cfg, node: Node{HostPaths: cfg.HostPaths, Privileged: cfg.Privileged, Off: cfg.Off}, ready: make(chan struct{}), events: make(chan func(), 16),
		dueNow: make(chan struct{}, 1), sources: map[string]*source{}, entries: map[string]*entry{}, watches: map[string]*watching{}, keeper: keeper{cfg.DB}}
	for _, rt := range cfg.Runtimes {
		if e.sources[rt.Name()] != nil {
			return nil, fmt.Errorf("workloads: two runtimes are called %s", rt.Name())
		}
		e.node.Runtimes = append(e.node.Runtimes, rt.Name())
		e.sources[rt.Name()] = newSource(rt)
	}
	e.maker = maker{places: places{disk: cfg.Dir, memory: cfg.MemoryDir}, node: e.node, logBytes: cfg.LogBytes, unseal: cfg.Unseal}
	memories, err := e.keeper.load()
	if err != nil {
		return nil, err
	}
	for name, mem := range memories {
		e.entry(name).mem = mem
		e.entry(name).kept = true
	}
	return e, nil
}

// Runtimes are the names of the runtimes that workloads may have, the preferred one first.
func (e *Engine) Runtimes() []string {
	if e.cfg.Off {
		return nil
	}
	return e.node.Runtimes
}

// Ready is closed when Status tells how things stand rather than nothing: soon after the start of Run, whatever runtimes do.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Want replaces what is wanted. Until its first call nothing that runs is touched.
func (e *Engine) Want(list []api.Workload) {
	e.mu.Lock()
	e.wanted, e.fresh = list, true
	e.mu.Unlock()
	select {
	case e.dueNow <- struct{}{}:
	default: // it is due already
	}
}

// readyWithin bounds the wait for runtimes before Ready.
const readyWithin = 3 * time.Second

// Run works until ctx ends. Containers go on without it.
func (e *Engine) Run(ctx context.Context) error {
	defer e.wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, s := range e.sources {
		e.wg.Go(func() { e.list(ctx, s) })
	}
	slow := time.NewTimer(readyWithin)
	defer slow.Stop()
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		e.take()
		again.Reset(e.look(ctx))
		select {
		case <-ctx.Done():
			return nil
		case f := <-e.events:
			f()
			for more := true; more; {
				select {
				case f := <-e.events:
					f()
				default:
					more = false
				}
			}
		case <-e.dueNow:
		case <-again.C:
		case <-slow.C:
			e.open()
		case <-tidy.C:
			e.tidy(ctx)
		}
	}
}

// post has the loop do f, unless ctx ends first.
func (e *Engine) post(ctx context.Context, f func()) {
	select {
	case e.events <- f:
	case <-ctx.Done():
	}
}

// open closes Ready once.
func (e *Engine) open() {
	if !e.first {
		e.first = true
		close(e.ready)
	}
}

func (e *Engine) entry(name string) *entry {
	en := e.entries[name]
	if en == nil {
		en = &entry{name: name, kept: true, trials: map[string]Trial{}, busy: map[string]*work{}} // nothing is on flash
		e.entries[name] = en
	}
	return en
}

// take looks at what is newly wanted.
func (e *Engine) take() {
	e.mu.Lock()
	list, fresh := e.wanted, e.fresh
	e.wanted, e.fresh = nil, false
	e.mu.Unlock()
	if !fresh {
		return
	}
	e.told = true
	e.order = e.order[:0]
	before, forms := map[string]string{}, map[string]*api.Workload{}
	for name, en := range e.entries {
		before[name], forms[name] = en.hash, en.want
		en.want, en.hash, en.refuse = nil, "", nil
	}
	for i := range list {
		w := &list[i]
		en := e.entry(w.Name)
		if en.want != nil {
			e.cfg.Log.Warn("two workloads have one name; the first is used", keyWorkload, w.Name)
			continue
		}
		en.want, en.hash = w, w.Hash()
		en.runtime, en.refuse = Admit(w, e.node)
		e.order = append(e.order, w.Name)
	}
	for name, en := range e.entries {
		changed := en.hash != before[name]
		if changed {
			en.anew()
		}
		if changed && !resealed(forms[name], en.want) || en.want == nil || en.want.Draining {
			for _, w := range en.busy {
				if w.deed == Begin {
					w.cancel() // nobody wants it any more
				}
			}
		}
	}
}
