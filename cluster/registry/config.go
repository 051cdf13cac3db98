package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/commit"
	"github.com/skerry-edge/skerry/cluster/feed"
	"github.com/skerry-edge/skerry/cluster/schedule"
)

// Config is what a Registry needs. Zero values of the bounds mean the defaults named beside them.
type Config struct {
	DB      *bbolt.DB // opened and closed by somebody else
	Cluster string
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger

	LostAfter    time.Duration // 24 h; a node may declare longer
	StartGrace   time.Duration // 10 min, see Windows
	BrokerGrace  time.Duration // 1 min
	SleepMargin  time.Duration // 2 min
	Silence      time.Duration // 3 min
	DesiredValid time.Duration // how long a desired document may be accepted after it is issued; 24 h
	KeepEvents   int           // 100,000
	KeepFor      time.Duration // how long an event is kept; 30 days
	WatchQueue   int           // changes that may wait for one watcher; feed.DefaultQueue
}

// What a caller may want to tell apart.
var (
	ErrNotLoaded = errors.New("registry is not loaded yet")
	ErrUnknown   = errors.New("no such node")
	ErrInvalid   = errors.New("not valid")
	ErrUnheard   = errors.New("this cluster agent does not act for the node, or has not heard yet what another one told it")
)

// Refusal is an ErrInvalid of what somebody asked for. Why says what is wrong with it, for whoever has other words for the rest.
type Refusal struct{ Why error }

func (e *Refusal) Error() string { return fmt.Sprintf("%v: %v", ErrInvalid, e.Why) }

// Unwrap gives both.
func (e *Refusal) Unwrap() []error { return []error{ErrInvalid, e.Why} }

// Registry is safe for concurrent use.
type Registry struct {
	cfg     Config
	windows Windows
	group   *commit.Group
	nodesIn *feed.Feed[api.Node]
	events  *EventLog
	wake    chan struct{}
	ready   chan struct{}

	loading sync.Mutex

	mu       sync.RWMutex
	loaded   bool
	nodes    map[string]*node
	self     Self // Attended as of BrokerAt
	plan     schedule.Schedule
	verbSets map[[32]byte][]api.Verb
	stats    Stats
}

// New checks cfg and touches nothing.
func New(cfg Config) (*Registry, error) {
	if cfg.DB == nil || cfg.Log == nil {
		return nil, errors.New("registry: DB and Log are needed")
	}
	if err := api.ValidID("cluster", cfg.Cluster); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		usual time.Duration
	}{
		{"LostAfter", &cfg.LostAfter, 24 * time.Hour}, {"StartGrace", &cfg.StartGrace, 10 * time.Minute},
		{"BrokerGrace", &cfg.BrokerGrace, time.Minute}, {"SleepMargin", &cfg.SleepMargin, 2 * time.Minute},
		{"Silence", &cfg.Silence, 3 * time.Minute}, {"DesiredValid", &cfg.DesiredValid, 24 * time.Hour},
		{"KeepFor", &cfg.KeepFor, 30 * 24 * time.Hour},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("registry: %s is %s; wanted 0 (the default, %s) or more", d.name, *d.value, d.usual)
		}
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	if cfg.KeepEvents < 0 || cfg.WatchQueue < 0 {
		return nil, fmt.Errorf("registry: KeepEvents %d, WatchQueue %d: wanted 0 (the default) or more",
			cfg.KeepEvents, cfg.WatchQueue)
	}
	if cfg.KeepEvents == 0 {
		cfg.KeepEvents = 100_000
	}
	group := commit.New(cfg.DB)
	return &Registry{
		cfg: cfg,
		windows: Windows{LostAfter: cfg.LostAfter, StartGrace: cfg.StartGrace, BrokerGrace: cfg.BrokerGrace,
			SleepMargin: cfg.SleepMargin, Silence: cfg.Silence},
		group:    group,
		nodesIn:  feed.New[api.Node](cfg.WatchQueue),
		events:   newEventLog(&cfg, group),
		wake:     make(chan struct{}, 1),
		ready:    make(chan struct{}),
		nodes:    make(map[string]*node),
		verbSets: make(map[[32]byte][]api.Verb),
	}, nil
}

// Load creates the buckets and reads the nodes. Run calls it; somebody who needs the registry before that may. Until it
// has returned nil every other method fails or finds nothing.
func (r *Registry) Load() error {
	r.loading.Lock()
	defer r.loading.Unlock()
	if r.isLoaded() {
		return nil
	}
	now := r.cfg.Now()
	var stored []*node
	var attended time.Duration
	err := r.cfg.DB.Update(func(tx *bbolt.Tx) (err error) {
		stored, attended, err = readAll(tx)
		return errors.Join(err, r.events.prepare(tx))
	})
	if err != nil {
		return fmt.Errorf("load registry: %w", err)
	}
	r.mu.Lock()
	for _, n := range stored {
		// The last minute before a kill is not in the stored count; what a node refers to is certain.
		attended = max(attended, n.row.Standing.AbsentFrom)
	}
	r.self = Self{Started: now, BrokerAt: now, Attended: attended}
	for _, n := range stored {
		if n.birth != nil {
			n.birth = r.share(n.birth, verbKey(n.birth))
		}
		r.nodes[n.row.ID] = n
		r.decide(n, now)
	}
	r.loaded = true
	r.mu.Unlock()
	close(r.ready)
	return nil
}

// Ready is closed when Load has succeeded.
func (r *Registry) Ready() <-chan struct{} { return r.ready }

// Events is the log of what happened in the cluster.
func (r *Registry) Events() *EventLog { return r.events }

func (r *Registry) isLoaded() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.loaded
}

// poke has Run look again. It never blocks: one pending look covers all.
func (r *Registry) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
