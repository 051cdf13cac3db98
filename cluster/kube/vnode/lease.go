package vnode

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/agent"
)

const (
	leaseSeconds  = 40 // a kubelet's
	renewal       = leaseSeconds / 4 * time.Second
	leaseTick     = 250 * time.Millisecond
	leaseWriters  = 32          // of a thousand leases, by an API server that takes 0.2 s
	leaseDeadline = renewal / 2 // of one write: the next is due soon
)

// leases renews those of the devices that are there. It keeps what it wrote last, so that a renewal is one write and no read, and no
// cache holds the leases of other nodes.
type leases struct {
	client  client.Client
	now     func() time.Time
	log     *slog.Logger
	elected bool

	mu   sync.Mutex
	kept map[string]*kept
}

type kept struct {
	owner metav1.OwnerReference
	last  *coordinationv1.Lease // as the API server returned it; nil before the first write
	due   time.Time             // by the runtime's clock, not the cluster's
	busy  bool
	// failed counts attempts in a row.
	failed int
}

// pacedByItself is cfg without a limit on the rate of requests. Leases are as many as there are devices, each at its time and a few at once: behind
// a limit for all they would be late, and all else would wait for them.
func pacedByItself(cfg *rest.Config) *rest.Config {
	own := rest.CopyConfig(cfg)
	own.QPS, own.RateLimiter = -1, nil
	return own
}

func newLeases(c client.Client, cfg *Config) *leases {
	return &leases{client: c, now: cfg.Now, log: cfg.Log, elected: cfg.Elected, kept: map[string]*kept{}}
}

// NeedLeaderElection is asked by the manager.
func (l *leases) NeedLeaderElection() bool { return l.elected }

// keep has the Lease of a device renewed from now on; node nil: no more.
func (l *leases) keep(id string, node *corev1.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if node == nil {
		delete(l.kept, id)
		return
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
	if k := l.kept[id]; k != nil && k.owner == owner {
		return
	}
	l.kept[id] = &kept{owner: owner}
}

// Start renews until ctx ends. It is one of the manager's runnables.
func (l *leases) Start(ctx context.Context) error {
	due := make(chan string)
	var writers sync.WaitGroup
	defer writers.Wait()
	defer close(due)
	for range leaseWriters {
		writers.Go(func() {
			for id := range due {
				l.renew(ctx, id)
			}
		})
	}
	tick := time.NewTicker(leaseTick)
	defer tick.Stop()
	for {
		for _, id := range l.take(time.Now()) {
			select {
			case due <- id:
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// take returns whose time has come, and gives them the next. The tenth by which times differ keeps a site's renewals apart.
func (l *leases) take(now time.Time) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, k := range l.kept {
		if !k.busy && !now.Before(k.due) {
			k.busy, k.due = true, now.Add(renewal*9/10+rand.N(renewal/10))
			ids = append(ids, id)
		}
	}
	return ids
}

func (l *leases) renew(ctx context.Context, id string) {
	l.mu.Lock()
	k := l.kept[id]
	l.mu.Unlock()
	if k == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaseDeadline)
	defer cancel()
	lease, err := l.write(ctx, id, k)
	if err != nil && ctx.Err() == nil {
		l.log.Debug("lease not renewed", agent.KeyNode, id, agent.KeyErr, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k.last, k.busy = lease, false
	if err == nil {
		k.failed = 0
		return
	}
	// Soon, as it is short; but a thousand that are all refused must not be a storm.
	k.due = time.Now().Add(min(time.Second<<min(k.failed, 8), renewal) + rand.N(time.Second))
	k.failed++
}

// renewed is the time of a renewal: now, but always later than that of the last one. Kubernetes takes a Lease for renewed only when its time
// has moved on, and remembers the latest that it saw: after a clock that was a day ahead the nodes would be unreachable for a day.
func renewed(now time.Time, last *coordinationv1.Lease) metav1.MicroTime {
	if t := last.Spec.RenewTime; t != nil && !now.After(t.Time) {
		now = t.Add(time.Millisecond)
	}
	return metav1.NewMicroTime(now)
}

// write renews with one call when nobody else wrote meanwhile. It returns the Lease to go on from, also with an error: after a slow spell
// the next renewal is one call again, or a server that is slow for all would never be caught up with. nil: it is to be read anew.
func (l *leases) write(ctx context.Context, id string, k *kept) (*coordinationv1.Lease, error) {
	seconds := int32(leaseSeconds)
	spec := coordinationv1.LeaseSpec{HolderIdentity: &id, LeaseDurationSeconds: &seconds}
	if k.last != nil {
		next := k.last.DeepCopy()
		next.Spec = spec
		next.Spec.RenewTime = new(renewed(l.now(), k.last))
		if err := l.client.Update(ctx, next); err != nil {
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				return nil, fmt.Errorf("update: %w", err)
			}
			return k.last, fmt.Errorf("update: %w", err) // if it was written all the same, the next is a conflict
		}
		return next, nil
	}
	spec.RenewTime = new(metav1.NewMicroTime(l.now()))
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: id, OwnerReferences: []metav1.OwnerReference{k.owner}}, Spec: spec}
	err := l.client.Create(ctx, lease)
	if err == nil || !apierrors.IsAlreadyExists(err) {
		return lease, err
	}
	// It is from an earlier life: a patch without a version takes it over, and tells the time that it has.
	lease.ResourceVersion, lease.Spec.RenewTime = "", nil
	if err := l.client.Patch(ctx, lease, client.Merge); err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	next := lease.DeepCopy()
	next.Spec.RenewTime = new(renewed(l.now(), lease))
	if err := l.client.Update(ctx, next); err != nil {
		return lease, fmt.Errorf("renew after it was taken over: %w", err)
	}
	return next, nil
}
