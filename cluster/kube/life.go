package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/kube/inventory"
	"github.com/skerry-edge/skerry/cluster/kube/order"
	"github.com/skerry-edge/skerry/cluster/kube/wave"
)

// How the lease is held: those of Kubernetes' own controllers.
const (
	leaseFor   = 15 * time.Second
	renewFor   = 10 * time.Second
	renewEvery = 2 * time.Second
)

// life is one connection from beginning to end.
type life struct {
	*Bridge
	manager   manager.Manager
	inventory client.Client // at the pace of the inventory
	lock      resourcelock.Interface
	id        string
}

// live leads one life: connect, install, and work until the API server is lost, the lease is, or ctx ends.
func (b *Bridge) live(ctx context.Context) error {
	l := &life{Bridge: b}
	cfg, err := b.config()
	if err != nil {
		return err
	}
	scheme, mapper, err := types()
	if err != nil {
		return err
	}
	plain, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := b.prepare(ctx, plain); err != nil {
		return err
	}
	if err := l.elect(cfg); err != nil {
		return err
	}
	within := map[string]cache.Config{b.cfg.Namespace: {}}
	wait, leaderOnly := 5*time.Second, b.cfg.Replica == ""
	l.manager, err = manager.New(cfg, manager.Options{
		Scheme: scheme, MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper, nil },
		Logger: logr.FromSlogHandler(debugging{b.cfg.Log.Handler()}), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		LeaderElection: true, LeaderElectionResourceLockInterface: l.lock, LeaderElectionReleaseOnCancel: true,
		LeaseDuration: new(leaseFor), RenewDeadline: new(renewFor), RetryPeriod: new(renewEvery), GracefulShutdownTimeout: &wait,
		Cache: cache.Options{DefaultNamespaces: within, ByObject: b.cached()},
	})
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	slow := rest.CopyConfig(cfg)
	slow.QPS, slow.Burst = inventoryRate, inventoryBurst
	l.inventory, err = client.New(slow, client.Options{Scheme: scheme, Mapper: mapper, Cache: &client.CacheOptions{Reader: l.manager.GetCache()}})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := l.addNodes(plain, leaderOnly); err != nil {
		return err
	}
	if err := l.addOrders(ctx, plain, leaderOnly); err != nil {
		return err
	}
	if err := l.addRollouts(plain, leaderOnly); err != nil {
		return err
	}
	if err := l.manager.Add(unelected(l.watchHealth)); err != nil {
		return err
	}
	if err := l.addVirtual(ctx, cfg, leaderOnly); err != nil {
		return err
	}
	return l.manager.Start(ctx)
}

// elect prepares the lease. No events are written about it: that would take one more right.
func (l *life) elect(cfg *rest.Config) error {
	leases, err := coordination.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	l.id = l.cfg.Replica
	if l.id == "" {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		l.id = host
	}
	l.id += "_" + api.NewID()
	l.lock = &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Name: "skerry-" + l.cfg.Cluster, Namespace: l.cfg.Namespace}, Client: leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: l.id}}
	return nil
}

// leads reports whether this cluster agent holds the lease.
func (l *life) leads() bool {
	select {
	case <-l.manager.Elected():
		return true
	default:
		return false
	}
}

// add has a runnable run while this cluster agent holds the lease, or always.
func (l *life) add(leaderOnly bool, run func(context.Context) error) error {
	if leaderOnly {
		return l.manager.Add(elected(run))
	}
	return l.manager.Add(unelected(run))
}

// addNodes has the inventory kept. leaderOnly: by who holds the lease; else each replica keeps that of its own nodes.
func (l *life) addNodes(live client.Reader, leaderOnly bool) error {
	c := inventory.New(inventory.Config{Cluster: l.cfg.Cluster, Namespace: l.cfg.Namespace, Layer: v1.Layer(l.cfg.Layer), Refresh: l.cfg.Refresh,
		Registry: l.cfg.Registry, Fleet: l.cfg.Fleet, Client: l.inventory, Live: live, NoRoom: l.noRoom, Leads: l.leads, Log: l.cfg.Log, Now: l.cfg.Now})
	l.mu.Lock()
	l.nodes = c
	l.mu.Unlock()
	listing := inventory.NewListing(inventory.ListingConfig{Cluster: l.cfg.Cluster, Namespace: l.cfg.Namespace, Registry: l.cfg.Registry,
		Client: l.inventory, Log: l.cfg.Log, Now: l.cfg.Now})
	return errors.Join(l.addController(work{name: "inventory", workers: 4, reconciler: c, kind: &v1.MLSysOpsNode{}, feed: c.Feed, leaderOnly: leaderOnly}),
		l.manager.Add(elected(listing.Run)))
}

// addOrders has NodeCommands run.
func (l *life) addOrders(ctx context.Context, live client.Reader, leaderOnly bool) error {
	if err := l.manager.GetFieldIndexer().IndexField(ctx, &v1alpha1.NodeCommand{}, order.IndexUID, order.UIDs); err != nil {
		return err
	}
	c := order.New(order.Config{Agent: l.name(), Namespace: l.cfg.Namespace, Grace: l.cfg.Grace, Door: l.cfg.Door, Journal: l.cfg.Journal, Owns: l.owns,
		Client: l.manager.GetClient(), Live: live, Leads: l.leads, Now: l.cfg.Now})
	return l.addController(work{name: "orders", workers: 8, reconciler: c, kind: &v1alpha1.NodeCommand{}, feed: c.Feed, leaderOnly: leaderOnly})
}

// addRollouts has Rollouts carried out.
func (l *life) addRollouts(live client.Reader, leaderOnly bool) error {
	c := wave.New(wave.Config{Agent: l.name(), Namespace: l.cfg.Namespace, Store: l.cfg.Rollouts, Client: l.manager.GetClient(), Live: live, Leads: l.leads,
		Now: l.cfg.Now})
	return l.addController(work{name: "rollouts", workers: 2, reconciler: c, kind: &v1alpha1.Rollout{}, feed: c.Feed, leaderOnly: leaderOnly})
}

// name is this cluster agent among its replicas.
func (l *life) name() string { return cmp.Or(l.cfg.Replica, l.cfg.Cluster) }

// owns says who acts for a node.
func (l *life) owns(node string) order.Ownership {
	n, known := l.cfg.Registry.Get(node)
	switch {
	case !known:
		return order.Nobody
	case n.Owner == nil || n.Owner.Here:
		return order.Here
	}
	return order.Elsewhere
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// work is what workers do: bring objects of a kind up to date, as they change there, and as feed tells of changes here.
type work struct {
	name       string
	workers    int
	reconciler reconcile.Reconciler
	kind       client.Object
	feed       func(context.Context, queue) error
	leaderOnly bool // only while this cluster agent holds the lease
}

// reconcileWithin bounds the work on one object.
const reconcileWithin = 30 * time.Second

func (l *life) addController(w work) error {
	anew := true // names are free again in the next life
	c, err := controller.New(w.name, l.manager, controller.Options{Reconciler: w.reconciler, MaxConcurrentReconciles: w.workers, SkipNameValidation: &anew,
		NeedLeaderElection: &w.leaderOnly, ReconciliationTimeout: reconcileWithin,
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 30*time.Second)})
	if err != nil {
		return err
	}
	queues := make(chan queue, 1)
	err = c.Watch(source.Func(func(_ context.Context, q queue) error {
		queues <- q
		return nil
	}))
	if err != nil {
		return err
	}
	if err := c.Watch(source.Kind(l.manager.GetCache(), w.kind, &handler.EnqueueRequestForObject{})); err != nil {
		return err
	}
	pump := func(ctx context.Context) error {
		select {
		case q := <-queues:
			return w.feed(ctx, q)
		case <-ctx.Done():
			return nil
		}
	}
	return l.add(w.leaderOnly, pump)
}

// elected runs while this cluster agent holds the lease, unelected always.
type (
	elected   func(ctx context.Context) error
	unelected func(ctx context.Context) error
)

func (f elected) Start(ctx context.Context) error   { return f(ctx) }
func (f elected) NeedLeaderElection() bool          { return true }
func (f unelected) Start(ctx context.Context) error { return f(ctx) }
func (f unelected) NeedLeaderElection() bool        { return false }

// healthEvery is how often it is looked whether the API server answers, and who leads.
const (
	healthEvery  = 10 * time.Second
	healthWithin = 5 * time.Second
)

// watchHealth notes whether the API server answers. One that does not ends a life that holds the lease; who stands by waits.
func (l *life) watchHealth(ctx context.Context) error {
	for {
		hctx, cancel := context.WithTimeout(ctx, healthWithin)
		record, _, err := l.lock.Get(hctx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !apierrors.IsNotFound(err):
			l.sick(fmt.Errorf("ask for the lease: %w", err))
		case l.leads():
			l.well("leading", l.id)
		case record != nil && record.HolderIdentity != "":
			l.well("standing by", record.HolderIdentity)
		}
		every := healthEvery
		if !l.leads() {
			every = time.Second
		}
		if !agent.Wait(ctx, agent.Jitter(every, 0.1)) {
			return nil
		}
	}
}
