package vnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// oneLease is an API server that holds one Lease, and takes a version that is not its own for a conflict.
type oneLease struct {
	client.Client
	held    *coordinationv1.Lease
	version int
}

var errOther = errors.New("it is about something else")

func (o *oneLease) keep(l *coordinationv1.Lease) {
	o.version++
	l.ResourceVersion = string(rune('a' + o.version))
	o.held = l.DeepCopy()
}

func (o *oneLease) Create(_ context.Context, obj client.Object, _ ...client.CreateOption) error {
	if o.held != nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "leases"}, obj.GetName())
	}
	l, ok := obj.(*coordinationv1.Lease)
	if !ok {
		return errOther
	}
	o.keep(l)
	return nil
}

func (o *oneLease) Update(_ context.Context, obj client.Object, _ ...client.UpdateOption) error {
	l, ok := obj.(*coordinationv1.Lease)
	if !ok {
		return errOther
	}
	if l.ResourceVersion != o.held.ResourceVersion {
		return apierrors.NewConflict(schema.GroupResource{Resource: "leases"}, l.Name, errors.New("another version"))
	}
	o.keep(l)
	return nil
}

// Patch merges the spec, as far as it says something.
func (o *oneLease) Patch(_ context.Context, obj client.Object, _ client.Patch, _ ...client.PatchOption) error {
	l, ok := obj.(*coordinationv1.Lease)
	if !ok {
		return errOther
	}
	if l.Spec.RenewTime == nil {
		l.Spec.RenewTime = o.held.Spec.RenewTime
	}
	o.keep(l)
	return nil
}

func TestTheTimeOfALeaseNeverGoesBack(t *testing.T) {
	now := time.Unix(1764000000, 0)
	server := &oneLease{}
	l := newLeases(server, &Config{Now: func() time.Time { return now }})
	k := &kept{owner: metav1.OwnerReference{Name: "n1"}}
	var last time.Time
	renew := func(what string) {
		t.Helper()
		lease, err := l.write(t.Context(), "n1", k)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		k.last = lease
		if at := server.held.Spec.RenewTime.Time; !at.After(last) {
			t.Errorf("%s: %s after %s", what, at, last)
		}
		last = server.held.Spec.RenewTime.Time
	}
	renew("the first")
	now = now.Add(10 * time.Second)
	renew("the next")
	if !last.Equal(now) {
		t.Errorf("it was renewed at %s; wanted %s", last, now)
	}
	now = now.Add(24 * time.Hour)
	renew("by a clock that is a day ahead")
	now = now.Add(-24 * time.Hour)
	renew("by a clock that is right again")
	k.last = nil
	renew("in another life")
	server.held.ResourceVersion = "somebody else's"
	if _, err := l.write(t.Context(), "n1", k); !apierrors.IsConflict(err) {
		t.Errorf("over somebody else's: %v", err)
	}
	k.last = nil
	renew("after that")
}

// slowLeases is an API server that takes its time over every write.
type slowLeases struct {
	client.Client
	takes time.Duration

	mu     sync.Mutex
	wrote  map[string]time.Time
	latest time.Duration // the longest between two writes of one lease
}

func (s *slowLeases) write(name string) error {
	time.Sleep(s.takes) // of the bubble
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, before := s.wrote[name]; before {
		s.latest = max(s.latest, time.Since(last))
	}
	s.wrote[name] = time.Now()
	return nil
}

func (s *slowLeases) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	return s.write(o.GetName())
}

func (s *slowLeases) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	return s.write(o.GetName())
}

func TestAThousandLeasesAreRenewedInTimeByASlowAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &slowLeases{takes: 200 * time.Millisecond, wrote: map[string]time.Time{}}
		l := newLeases(server, &Config{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		for i := range 1000 {
			name := fmt.Sprint("n", i)
			l.keep(name, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := l.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if limit := leaseSeconds * time.Second / 2; len(server.wrote) != 1000 || server.latest > limit {
			t.Errorf("%d leases, the longest %s without a renewal; wanted all within %s", len(server.wrote), server.latest, limit)
		}
	})
	slow := &rest.Config{QPS: 100, Burst: 200}
	if own := pacedByItself(slow); own.QPS >= 0 || slow.QPS != 100 {
		t.Errorf("leases have a limit of %g requests a second, all else %g", own.QPS, slow.QPS)
	}
}

// slowLease is one whose every call takes a while.
type slowLease struct {
	oneLease
	takes   func() time.Duration
	renewed time.Time
}

func (s *slowLease) wait(ctx context.Context) error {
	select {
	case <-time.After(s.takes()):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slowLease) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.oneLease.Create(ctx, o, opts...)
}

func (s *slowLease) Update(ctx context.Context, o client.Object, opts ...client.UpdateOption) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	s.renewed = time.Now()
	return s.oneLease.Update(ctx, o, opts...)
}

func (s *slowLease) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.oneLease.Patch(ctx, o, p, opts...)
}

func TestALeaseIsRenewedAgainAfterASpellInWhichNothingWentThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		server := &slowLease{takes: func() time.Duration {
			if d := time.Since(start); d > time.Minute && d < 75*time.Second {
				return 2 * leaseDeadline
			}
			return leaseDeadline * 2 / 5
		}}
		l := newLeases(server, &Config{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		l.keep("n1", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := l.Start(ctx); err != nil {
			t.Error(err)
		}
		if ago := time.Since(server.renewed); ago > 2*renewal {
			t.Errorf("renewed %s ago; wanted every %s, as before the spell", ago, renewal)
		}
	})
}
