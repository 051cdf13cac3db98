package command

import (
	"context"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// glance is a safe verb.
type glance struct{ spy }

func (g *glance) Spec() Spec {
	return Spec{Verb: api.Verb{Name: g.name, Role: api.RoleViewer, Safe: true}, Restart: Retry, Urgent: true}
}

func (b *bench) writes() int64 {
	s := b.db.Stats()
	return s.TxStats.GetWrite()
}

func TestSafeCommandIsKeptInMemoryUntilItsEndIsAcknowledged(t *testing.T) {
	ran := 0
	look := &glance{spy{name: "look", act: func(context.Context, *Job) (Outcome, error) { ran++; return Outcome{Output: "seen"}, nil }}}
	bubble(t, Config{Verbs: []Verb{look}}, func(t *testing.T, b *bench) {
		before := b.writes()
		cmd := b.order("a", "look", nil)
		b.handle(cmd)
		b.want("a", api.PhaseSucceeded)
		if p := b.out.phases("a"); len(p) != 1 {
			t.Errorf("told %v; wanted its end alone", p)
		}
		b.handle(cmd) // the cluster agent had not heard
		b.want("a", api.PhaseSucceeded)
		if ran != 1 {
			t.Errorf("ran %d times although its end was known", ran)
		}
		b.Acked([]string{"a"})
		pass(t, 10*time.Minute)
		if n := b.writes() - before; n != 0 {
			t.Errorf("%d pages written for a safe command that was acknowledged at once; wanted none", n)
		}
		if c := b.Counts(); c.Owed != 0 || c.Open != 0 {
			t.Errorf("%+v; wanted nothing owed", c)
		}
	})
}

func TestSafeCommandThatComesAgainWhileItRunsIsNotBegunAgain(t *testing.T) {
	ran := 0
	look := &glance{spy{name: "look", act: func(ctx context.Context, _ *Job) (Outcome, error) {
		ran++
		select {
		case <-ctx.Done():
			return Outcome{}, ctx.Err()
		case <-time.After(20 * time.Second):
			return Outcome{}, nil
		}
	}}}
	bubble(t, Config{Verbs: []Verb{look}}, func(t *testing.T, b *bench) {
		cmd := b.order("a", "look", nil)
		b.handle(cmd)
		pass(t, 6*time.Second) // the cluster agent delivers again after five
		b.handle(cmd)
		other := *cmd
		other.By = "bob"
		b.handle(&other) // the same id for somebody else's
		pass(t, 30*time.Second)
		b.want("a", api.PhaseSucceeded)
		if ran != 1 {
			t.Errorf("ran %d times; wanted once", ran)
		}
	})
}

func TestUnacknowledgedEndOfASafeCommandReachesTheDisk(t *testing.T) {
	for name, wait := range map[string]time.Duration{"after a while": 3 * time.Minute, "at the stop": 0} {
		t.Run(name, func(t *testing.T) {
			look := &glance{spy{name: "look", act: done}}
			bubble(t, Config{Verbs: []Verb{look}}, func(t *testing.T, b *bench) {
				b.handle(b.order("a", "look", nil))
				b.want("a", api.PhaseSucceeded)
				if wait > 0 {
					pass(t, wait)
				} else if err := b.stop(); err != nil {
					t.Fatal(err)
				}
				n := 0
				err := b.db.View(func(tx *bbolt.Tx) error {
					n = tx.Bucket(b.journal.records).Stats().KeyN
					return nil
				})
				if err != nil || n != 1 {
					t.Fatalf("%d records on disk, %v; wanted the one end that nobody has acknowledged", n, err)
				}
			})
		})
	}
}

func TestSafeVerbMustBeRepeatable(t *testing.T) {
	bad := &badGlance{glance{spy{name: "look", act: done}}}
	e := &Engine{verbs: map[string]*known{}}
	if err := e.learn(bad); err == nil {
		t.Fatal("a safe verb that must not run twice was taken")
	}
}

type badGlance struct{ glance }

func (g *badGlance) Spec() Spec {
	s := g.glance.Spec()
	s.Restart = Fail
	return s
}
