package command

import (
	"context"
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

// Deliverer signs cmd, which carries epoch, and hands it to the broker for a connected node. An error means that it may
// not have gone out: it is tried again. Different nodes are served at the same time, one node's commands in order.
type Deliverer interface {
	Deliver(ctx context.Context, node string, epoch uint64, cmd *api.Command) error
}

// Nodes tells what a node can be asked for. verbs is nil while the node has not announced any; exists is false when
// there is no such node.
type Nodes interface {
	Verbs(node string) (verbs []api.Verb, exists bool)
}

// Config is what a Journal needs. Zero values of the bounds mean the defaults named beside them.
type Config struct {
	DB        *bbolt.DB // opened and closed by somebody else
	Nodes     Nodes
	Deliverer Deliverer
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger

	Grace          time.Duration // between the deadline and the close, longer than the node's own (10 s); 15 s
	MaxWait        time.Duration // from now to the deadline; 7 days
	MaxOpenPerNode int           // 64
	MaxOpen        int           // of the whole cluster; 100,000
	KeepFinals     int           // 10,000
	KeepFor        time.Duration // how long a final record is kept; 30 days
	Deliveries     int           // nodes served at the same time; 16
	WatchQueue     int           // changes that may wait for one watcher; feed.DefaultQueue
	// KeepUnknown is how old the end of a command that is not known here has to be before the node may forget it: where
	// several cluster agents serve one fleet, another one's journal may want it. 0: at once.
	KeepUnknown time.Duration
}

// Journal is safe for concurrent use once Load has returned.
type Journal struct {
	cfg   Config
	group *commit.Group
	feed  *feed.Feed[api.CommandRecord]
	wake  chan struct{}
	ready chan struct{}

	loading sync.Mutex

	mu       sync.Mutex
	loaded   bool
	open     map[string]*openCommand
	byNode   map[string]map[string]*openCommand
	reserved map[string]int      // submissions under way, by node
	pending  int                 // their sum
	ahead    map[string]*early   // safe commands that were sent and are not journalled
	swift    map[string]struct{} // connected nodes that answer within holdFor
	links    map[string]uint64
	plan     schedule.Schedule
	dirty    map[string]struct{} // nodes with something due
	busy     map[string]struct{} // nodes being served
	acks     map[string][]string
	finals   int
	stats    Stats
}

// openCommand is a command that is not final, and how its delivery goes.
type openCommand struct {
	entry
	due     bool // to be delivered at the next chance
	attempt int  // deliveries in this session of the node
}

// deliverWithin bounds one call of the Deliverer.
const deliverWithin = 10 * time.Second

// New checks cfg and touches nothing.
func New(cfg Config) (*Journal, error) {
	if cfg.DB == nil || cfg.Nodes == nil || cfg.Deliverer == nil || cfg.Log == nil {
		return nil, errors.New("command journal: DB, Nodes, Deliverer and Log are all needed")
	}
	if cfg.Grace < 0 || cfg.MaxWait < 0 || cfg.KeepFor < 0 || cfg.MaxOpenPerNode < 0 || cfg.MaxOpen < 0 ||
		cfg.KeepFinals < 0 || cfg.Deliveries < 0 || cfg.WatchQueue < 0 {
		return nil, fmt.Errorf("command journal: a bound is negative in %+v; wanted 0 (the default) or more",
			[]any{cfg.Grace, cfg.MaxWait, cfg.KeepFor, cfg.MaxOpenPerNode, cfg.MaxOpen, cfg.KeepFinals, cfg.Deliveries,
				cfg.WatchQueue})
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Grace = orDefault(cfg.Grace, 15*time.Second)
	cfg.MaxWait = orDefault(cfg.MaxWait, 7*24*time.Hour)
	cfg.KeepFor = orDefault(cfg.KeepFor, 30*24*time.Hour)
	cfg.MaxOpenPerNode = orDefault(cfg.MaxOpenPerNode, 64)
	cfg.MaxOpen = orDefault(cfg.MaxOpen, 100_000)
	cfg.KeepFinals = orDefault(cfg.KeepFinals, 10_000)
	cfg.Deliveries = orDefault(cfg.Deliveries, 16)
	return &Journal{
		cfg:      cfg,
		group:    commit.New(cfg.DB),
		feed:     feed.New[api.CommandRecord](cfg.WatchQueue),
		wake:     make(chan struct{}, 1),
		ready:    make(chan struct{}),
		open:     make(map[string]*openCommand),
		byNode:   make(map[string]map[string]*openCommand),
		reserved: make(map[string]int),
		ahead:    make(map[string]*early),
		swift:    make(map[string]struct{}),
		links:    make(map[string]uint64),
		dirty:    make(map[string]struct{}),
		busy:     make(map[string]struct{}),
		acks:     make(map[string][]string),
	}, nil
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Load creates the buckets and reads the open commands. Run calls it; somebody who needs the journal before that may.
// Until it has returned nil every other method fails with ErrNotLoaded or finds nothing.
func (j *Journal) Load() error {
	j.loading.Lock()
	defer j.loading.Unlock()
	if j.isLoaded() {
		return nil
	}
	var entries []entry
	finals := 0
	err := j.cfg.DB.Update(func(tx *bbolt.Tx) error {
		var err error
		entries, finals, err = prepare(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("load command journal: %w", err)
	}
	j.mu.Lock()
	for i := range entries {
		j.admit(&entries[i])
	}
	j.finals = finals
	j.loaded = true
	j.planFor(retireKey, j.cfg.Now())
	j.mu.Unlock()
	close(j.ready)
	return nil
}

// Ready is closed when Load has succeeded.
func (j *Journal) Ready() <-chan struct{} { return j.ready }

func (j *Journal) isLoaded() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.loaded
}

// poke has Run look again. It never blocks: one pending look covers all.
func (j *Journal) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}
