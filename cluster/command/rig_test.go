package command

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// fleet is a Nodes in which every node of the map exists.
type fleet map[string][]api.Verb

func (f fleet) Verbs(node string) ([]api.Verb, bool) {
	verbs, ok := f[node]
	return verbs, ok
}

// everybody is a Nodes in which every node exists and has said nothing.
type everybody struct{}

func (everybody) Verbs(string) ([]api.Verb, bool) { return nil, true }

// tape is a Deliverer that keeps what it got.
type tape struct {
	mu   sync.Mutex
	sent []api.Command
	err  error
	told chan struct{}
}

func (t *tape) Deliver(_ context.Context, _ string, _ uint64, cmd *api.Command) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent = append(t.sent, *cmd)
	if t.told != nil {
		t.told <- struct{}{}
	}
	return t.err
}

func (t *tape) ids() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for _, c := range t.sent {
		ids = append(ids, c.ID)
	}
	return ids
}

// clock is a wall clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.UnixMilli(1_764_000_000_000)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func openDB(t testing.TB, path string, sync bool) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: !sync, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// newJournal returns a loaded journal; fields of cfg that are unset get something that works.
func newJournal(t testing.TB, cfg Config) *Journal {
	t.Helper()
	if cfg.DB == nil {
		cfg.DB = openDB(t, filepath.Join(t.TempDir(), "db"), false)
	}
	if cfg.Nodes == nil {
		cfg.Nodes = everybody{}
	}
	if cfg.Deliverer == nil {
		cfg.Deliverer = &tape{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	j, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Load(); err != nil {
		t.Fatal(err)
	}
	return j
}

// turn does what Run would do now, in this goroutine.
func (j *Journal) turn(ctx context.Context) {
	for j.look() {
	}
	j.mu.Lock()
	var nodes []string
	for node := range j.dirty {
		nodes = append(nodes, node)
	}
	clear(j.dirty)
	j.mu.Unlock()
	slices.Sort(nodes)
	for _, node := range nodes {
		j.serve(ctx, node)
	}
}

func mustGet(t testing.TB, j *Journal, id string) api.CommandRecord {
	t.Helper()
	rec, found, err := j.Get(id)
	if err != nil || !found {
		t.Fatalf("get %s: found %v, %v", id, found, err)
	}
	return rec
}

func mustSubmit(t testing.TB, j *Journal, o Order) api.CommandRecord {
	t.Helper()
	if o.Verb == "" {
		o.Verb = "ping"
	}
	if o.Node == "" {
		o.Node = "n1"
	}
	if o.Deadline.IsZero() {
		o.Deadline = j.cfg.Now().Add(time.Minute)
	}
	rec, err := j.Submit(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func mustStatus(t testing.TB, j *Journal, id string, p api.Phase) {
	t.Helper()
	if err := j.OnStatus("n1", &api.Status{ID: id, Phase: p, Epoch: 1, At: api.At(j.cfg.Now())}); err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v; wanted %v", err, want)
	}
}
