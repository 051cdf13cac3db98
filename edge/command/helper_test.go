package command

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// recorder is an Out that checks what every observer relies on: phases only go forward, and a final one never changes.
type recorder struct {
	t    *testing.T
	mu   sync.Mutex
	down bool
	all  []api.Status
}

var errLinkDown = errors.New("link is down")

func (r *recorder) SendStatus(_ context.Context, s *api.Status) error {
	own := *s // as the agent's: it writes its session into it
	own.Epoch = 1
	s = &own
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return errLinkDown
	}
	if err := s.Validate(); err != nil {
		r.t.Errorf("status does not validate: %v", err)
	}
	for i := range r.all {
		if last := &r.all[i]; last.ID == s.ID && last.Phase.Final() && last.Phase != s.Phase && s.Phase.Final() {
			r.t.Errorf("command %s was %s and became %s", s.ID, last.Phase, s.Phase)
		}
	}
	r.all = append(r.all, *s)
	return nil
}

func (r *recorder) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// phases returns the phases sent of id, in order.
func (r *recorder) phases(id string) []api.Phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []api.Phase
	for _, s := range r.all {
		if s.ID == id {
			out = append(out, s.Phase)
		}
	}
	return out
}

// last returns the newest status of id.
func (r *recorder) last(id string) api.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range slices.Backward(r.all) {
		if s.ID == id {
			return s
		}
	}
	return api.Status{}
}

// spy is a verb made of functions.
type spy struct {
	name    string
	restart Restart
	urgent  bool
	args    api.Schema
	prepare func(args map[string]any) error
	act     func(ctx context.Context, job *Job) (Outcome, error)
	cleaned []string
}

func (s *spy) Spec() Spec {
	return Spec{Verb: api.Verb{Name: s.name, Role: api.RoleViewer, Args: s.args, Stream: true}, Restart: s.restart, Urgent: s.urgent}
}

func (s *spy) Prepare(args map[string]any) (Action, error) {
	if s.prepare != nil {
		if err := s.prepare(args); err != nil {
			return nil, err
		}
	}
	return s.act, nil
}

func (s *spy) Clean(id string, _ map[string]any) error {
	s.cleaned = append(s.cleaned, id)
	return nil
}

func done(context.Context, *Job) (Outcome, error) { return Outcome{Output: "done"}, nil }

// untilTold runs until its context ends.
func untilTold(ctx context.Context, _ *Job) (Outcome, error) {
	<-ctx.Done()
	return Outcome{}, ctx.Err()
}

// bench is an engine under test.
type bench struct {
	*Engine
	t    *testing.T
	out  *recorder
	db   *bbolt.DB
	stop func() error
}

// newBench opens a journal in dir and prepares an engine on it, without running it.
func newBench(t *testing.T, dir string, cfg Config) *bench {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "state.db"), 0o600, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Node, cfg.DB, cfg.Log = "n1", db, slog.New(slog.DiscardHandler)
	if cfg.Clock == nil {
		up := time.Now().Add(-time.Hour)
		cfg.Clock = agent.NewClock(time.Time{}, agent.ClockSource{Synced: func() bool { return true }, Boot: func() time.Duration { return time.Since(up) }})
	}
	b := &bench{t: t, db: db, out: &recorder{t: t}}
	if b.Engine, err = New(cfg, b.out); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// run starts the engine; stop, which the test need not call, ends it and returns Run's error.
func (b *bench) run() {
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	b.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	b.t.Cleanup(func() { _ = b.stop() })
	select {
	case <-b.Ready():
	case err := <-ended:
		b.t.Fatalf("engine ended: %v", err)
	}
}

// order makes a command that may take an hour.
func (b *bench) order(id, verb string, args map[string]any) *api.Command {
	now := b.cfg.Clock.Now()
	return &api.Command{ID: id, Node: "n1", Epoch: 1, Verb: verb, Args: args, By: "ann", Issued: api.At(now),
		Deadline: api.At(now.Add(time.Hour))}
}

func (b *bench) handle(cmds ...*api.Command) {
	b.t.Helper()
	for _, cmd := range cmds {
		if err := b.Handle(b.t.Context(), cmd); err != nil {
			b.t.Fatalf("handle %s: %v", cmd.ID, err)
		}
	}
}

// want checks the newest status of id.
func (b *bench) want(id string, phase api.Phase) api.Status {
	b.t.Helper()
	synctest.Wait()
	s := b.out.last(id)
	if s.Phase != phase {
		b.t.Fatalf("command %s is %q (%s); wanted %s; sent %v", id, s.Phase, s.Reason, phase, b.out.phases(id))
	}
	return s
}

// bubble runs f with an engine under a clock that only moves when everybody waits.
func bubble(t *testing.T, cfg Config, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, t.TempDir(), cfg)
		b.run()
		f(t, b)
		if err := b.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

// pass lets d go by.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	if !agent.Wait(t.Context(), d) {
		t.Fatal("test ended")
	}
	synctest.Wait()
}
