package vnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// Config is what virtual nodes need.
type Config struct {
	Cluster   string // whose Nodes they are
	Elected   bool   // only who holds the manager's lease works; else each replica does for its own devices
	Devices   Devices
	Documents Documents
	Place     func(node string, was int32) bridge.Place // was: the port that its Node says; 0 for none
	// HostNetworkImplied gives the device's network also to pods that do not say hostNetwork.
	HostNetworkImplied bool
	Released           func(node string) // its Node was deleted
	Log                *slog.Logger
	Now                func() time.Time
	Workers            int             // 0: 8
	MaxNodes           int             // devices that become nodes; 0: as many as leave room for machines in the pod network
	NoRoom             func(id string) // there is no room for a device, or there is again; nil: nobody wants to know
	Heartbeat          time.Duration   // a status that has not changed is told again after this time; 0: 30 minutes
}

const (
	workers = 8
	// reconcileWithin bounds the work on one device, and retryWithin how long it waits for the next try after failures: as those of
	// the other controllers. A cure shows soon.
	reconcileWithin = 30 * time.Second
	retryFirst      = 100 * time.Millisecond
	retryWithin     = 30 * time.Second
	// heartbeat is longer than a kubelet's 5 minutes: the Lease is what says that a device lives (ADR 25).
	heartbeat = 30 * time.Minute
	// missingAgain is when something that a pod refers to is looked for again: no watch tells, because to watch Secrets is to read
	// all of them.
	missingAgain = 10 * time.Second
	// renewAgain is when what pods refer to is looked at again, for the same reason; a kubelet does as often.
	renewAgain = time.Minute
)

// ByNode is the index of pods by the node that they are bound to.
const ByNode = "spec.nodeName"

// reconciler is the one of devices.
type reconciler struct {
	Config
	client client.Client
	reader client.Reader // past the cache: Secrets and ConfigMaps are got one by one
	leases *leases
	faults *Faults
	events recorder
}

// recorder writes events, which people read with kubectl describe. It does not wait, and may fail.
type recorder interface {
	Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any)
}

// Add gives mgr the controller of virtual nodes and the keeper of their Leases. The cache of mgr should hold the pods of all
// namespaces, and Nodes. What it returns tells what does not succeed.
func Add(ctx context.Context, mgr manager.Manager, cfg Config) (*Faults, error) {
	if cfg.Workers == 0 {
		cfg.Workers = workers
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = heartbeat
	}
	err := mgr.GetFieldIndexer().IndexField(ctx, &corev1.Pod{}, ByNode, func(o client.Object) []string {
		if p, ok := o.(*corev1.Pod); ok && p.Spec.NodeName != "" {
			return []string{p.Spec.NodeName}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("index pods by node: %w", err)
	}
	unpaced, err := client.New(pacedByItself(mgr.GetConfig()), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("connect for leases: %w", err)
	}
	r := &reconciler{Config: cfg, client: mgr.GetClient(), reader: mgr.GetAPIReader(), leases: newLeases(unpaced, &cfg), events: mgr.GetEventRecorder("skerry")}
	r.faults = &Faults{log: cfg.Log, room: &room{reader: r.reader, limit: cfg.MaxNodes, changed: cfg.NoRoom, now: cfg.Now,
		ours: func(n *corev1.Node) bool { return r.ours(n) }}}
	if err := errors.Join(mgr.Add(r.leases), mgr.Add(runnable{cfg.Elected, r.faults.room.watch})); err != nil {
		return nil, fmt.Errorf("add keepers of leases and of room: %w", err)
	}
	queues := make(chan workqueue.TypedRateLimitingInterface[reconcile.Request], 1) // the controller hands over its own as it starts
	devices := source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queues <- queue
		return nil
	})
	err = mgr.Add(runnable{cfg.Elected, func(ctx context.Context) error { // the manager joins it
		select {
		case queue := <-queues:
			return cfg.Devices.Watch(ctx, func(id string) { queue.Add(requestOf(id)) })
		case <-ctx.Done():
			return nil
		}
	}})
	if err != nil {
		return nil, fmt.Errorf("add watch of devices: %w", err)
	}
	anew := true // the name is free again in the next life of the manager
	err = builder.ControllerManagedBy(mgr).Named("virtual-node").WatchesRawSource(devices).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.deviceOfPod)).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.deviceOfNode)).
		WithOptions(controller.Options{MaxConcurrentReconciles: cfg.Workers, SkipNameValidation: &anew, NeedLeaderElection: &cfg.Elected,
			ReconciliationTimeout: reconcileWithin, RateLimiter: limiter()}).Complete(r)
	if err != nil {
		return nil, fmt.Errorf("add controller of virtual nodes: %w", err)
	}
	return r.faults, nil
}

func limiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryFirst, retryWithin)
}

// runnable is one of a manager's.
type runnable struct {
	elected bool
	run     func(context.Context) error
}

func (r runnable) Start(ctx context.Context) error { return r.run(ctx) }
func (r runnable) NeedLeaderElection() bool        { return r.elected }

func requestOf(id string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: id}}
}

func (r *reconciler) deviceOfPod(_ context.Context, o client.Object) []reconcile.Request {
	p, ok := o.(*corev1.Pod)
	if !ok || p.Spec.NodeName == "" {
		return nil
	}
	if _, standing := r.Devices.Device(p.Spec.NodeName); standing != Here {
		return nil
	}
	return []reconcile.Request{requestOf(p.Spec.NodeName)}
}

func (r *reconciler) deviceOfNode(_ context.Context, o client.Object) []reconcile.Request {
	if r.ours(o) {
		return []reconcile.Request{requestOf(o.GetName())}
	}
	return nil
}

// Reconcile makes one device and its Node agree. An error is tried again by the controller, and told.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	result, err := r.agree(ctx, req)
	if ctx.Err() == nil {
		r.faults.note(req.Name, err)
	}
	return result, err
}

func (r *reconciler) agree(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	device, standing := r.Devices.Device(req.Name)
	switch {
	case standing == Removed, standing == Here && bridge.Ceased(device):
		r.leases.keep(req.Name, nil)
		r.faults.room.note(req.Name, "")
		return reconcile.Result{}, r.remove(ctx, req.Name)
	case standing != Here, !bridge.Virtual(device):
		r.leases.keep(req.Name, nil)
		r.faults.room.note(req.Name, "")
		return reconcile.Result{}, nil
	}
	node, want, err := r.node(ctx, device)
	if errors.Is(err, errForeign) {
		r.leases.keep(device.ID, nil) // it says that the machine lives
	}
	if err != nil {
		return again(err)
	}
	if node == nil {
		return reconcile.Result{RequeueAfter: roomAgain + rand.N(roomAgain/10)}, nil
	}
	if want.Here {
		r.leases.keep(device.ID, node)
	} else {
		r.leases.keep(device.ID, nil)
	}
	after, err := r.pods(ctx, device, node)
	if err != nil {
		return again(err)
	}
	beat := r.Heartbeat + rand.N(r.Heartbeat/10)
	return reconcile.Result{RequeueAfter: min(beat, after)}, nil
}

// again tells whether err is worth a word: an object that changed meanwhile comes again by itself.
func again(err error) (reconcile.Result, error) {
	if changed(err) {
		return reconcile.Result{RequeueAfter: retryFirst}, nil
	}
	return reconcile.Result{}, err
}

// changed reports whether an object that changed meanwhile is all that err tells of, joined errors each by itself.
func changed(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(joined.Unwrap(), func(one error) bool { return !changed(one) })
	}
	if inner := errors.Unwrap(err); inner != nil {
		return changed(inner)
	}
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err)
}

// remove deletes the Node of a device that is no more, if it is one of ours, with its Lease.
func (r *reconciler) remove(ctx context.Context, id string) error {
	node := &corev1.Node{}
	err := r.client.Get(ctx, types.NamespacedName{Name: id}, node)
	if apierrors.IsNotFound(err) || err == nil && !r.ours(node) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read node %s: %w", id, err)
	}
	lease := &coordinationv1.Lease{}
	lease.Namespace, lease.Name = corev1.NamespaceNodeLease, id
	err = errors.Join(client.IgnoreNotFound(r.client.Delete(ctx, node, client.Preconditions{UID: &node.UID})), client.IgnoreNotFound(r.client.Delete(ctx, lease)))
	if err != nil {
		return fmt.Errorf("delete node %s of a device that is no more: %w", id, err)
	}
	r.Released(id)
	r.Log.Info("node of a device that is no more was deleted", agent.KeyNode, id)
	return nil
}
