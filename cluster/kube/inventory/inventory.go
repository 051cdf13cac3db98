// Package inventory keeps an MLSysOpsNode for every enrolled device, and the MLSysOpsCluster that lists them. Deleting an
// MLSysOpsNode decommissions the device; removing the device takes its object away.
//
// Who writes what: the device's facts (architecture, cores, memory, disk, runtimes, name, cluster) are put right whoever wrote
// them; guesses (layer, labels, system, sensors) stand until somebody else writes the field; all else is never touched. All of it
// is server-side apply under one field manager, so the API server knows whose a field is.
//
// Describe, Decide, Status and Render are pure; Controller and Listing touch the API server.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/feed"
	"github.com/skerry-edge/skerry/cluster/kube/apply"
	"github.com/skerry-edge/skerry/cluster/registry"
)

// Registry is what the inventory reads.
type Registry interface {
	Watch(ctx context.Context) ([]api.Node, *feed.Watch[api.Node])
	Get(id string) (api.Node, bool)
	Tombstone(id string) (stone registry.Tombstone, found bool, err error)
}

// Fleet is how a device is decommissioned. One that is not known is no error.
type Fleet interface {
	Decommission(ctx context.Context, node, by string) error
}

// Config of a Controller. All fields are set.
type Config struct {
	Cluster   string
	Namespace string
	Layer     v1.Layer      // of nodes that nobody has said one for
	Refresh   time.Duration // between writes of nothing but when a node was last seen
	Registry  Registry
	Fleet     Fleet
	Client    client.Client            // reads come from a cache
	Live      client.Reader            // and these do not
	NoRoom    func(node string) string // why a node that runs workloads is no Node; empty: it is, or it runs none
	Leads     func() bool              // whether this is the one cluster agent that answers for what has no owner
	Log       *slog.Logger
	Now       func() time.Time
}

// Controller brings one node's object up to date at a time, for each of several workers. It is a reconcile.Reconciler.
type Controller struct {
	cfg Config

	mu      sync.Mutex
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request] // once Feed has begun
	wrote   map[string]time.Time                                    // when the status of a node was last written
	refused map[string]Verdict                                      // nodes that have no object of ours
}

// settle is how long two writes of one node's status are apart at least: a link that comes and goes does not fill the API
// server.
const settle = 5 * time.Second

// New returns a controller.
func New(cfg Config) *Controller {
	return &Controller{cfg: cfg, wrote: map[string]time.Time{}, refused: map[string]Verdict{}}
}

// Feed queues every node that there is, and then each one that changes, until ctx ends.
func (c *Controller) Feed(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	c.mu.Lock()
	c.queue = queue
	c.mu.Unlock()
	for ctx.Err() == nil {
		nodes, watch := c.cfg.Registry.Watch(ctx)
		for i := range nodes {
			queue.Add(c.request(nodes[i].ID))
		}
		for change := range watch.Changes() {
			queue.Add(c.request(change.Item.ID))
		}
		if err := watch.Err(); err != nil && !errors.Is(err, feed.ErrSlow) { // too slow: list again
			return err
		}
	}
	return nil
}

// Wake has a node looked at, for something that the registry does not know.
func (c *Controller) Wake(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queue != nil {
		c.queue.Add(c.request(node))
	}
}

func (c *Controller) request(node string) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKey{Namespace: c.cfg.Namespace, Name: node}}
}

// Reconcile does what is due for one node.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	v := View{Cluster: c.cfg.Cluster}
	object := &v1.MLSysOpsNode{}
	switch err := c.cfg.Client.Get(ctx, req.NamespacedName, object); {
	case err == nil:
		v.Object = object
	case !apierrors.IsNotFound(err):
		return reconcile.Result{}, fmt.Errorf("read object of node %s: %w", req.Name, err)
	}
	if n, known := c.cfg.Registry.Get(req.Name); known {
		if n.Owner != nil && !n.Owner.Here {
			return reconcile.Result{}, nil // the replica that acts for it writes it
		}
		v.Node = &n
	} else {
		if !c.cfg.Leads() {
			return reconcile.Result{}, nil
		}
		stone, found, err := c.cfg.Registry.Tombstone(req.Name)
		if err != nil {
			return reconcile.Result{}, err
		}
		if found {
			v.Tombstone = &stone
		}
	}
	verdict := Decide(v)
	c.note(req.Name, verdict)
	switch verdict {
	case Write:
		return c.write(ctx, &v)
	case Orphan:
		return reconcile.Result{}, c.disown(ctx, v.Object)
	case Delete:
		return reconcile.Result{}, c.remove(ctx, v.Object)
	case Decommission, Release:
		return reconcile.Result{}, c.end(ctx, v)
	}
	return reconcile.Result{}, nil
}

// write applies the description and the status, each only when it differs.
func (c *Controller) write(ctx context.Context, v *View) (reconcile.Result, error) {
	n := v.Node
	want, same, err := Render(n, Describe(n, c.cfg.Layer), v.Object, c.cfg.Namespace)
	if err != nil {
		return reconcile.Result{}, err
	}
	if !same {
		if err := c.cfg.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(apply.Owner), client.ForceOwnership); err != nil {
			return reconcile.Result{}, fmt.Errorf("write object of node %s: %w", n.ID, err)
		}
		v.Object = &v1.MLSysOpsNode{} // apply gives back the whole object, with the status that it has
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(want.Object, v.Object); err != nil {
			return reconcile.Result{}, fmt.Errorf("read object of node %s: %w", n.ID, err)
		}
	}
	return c.report(ctx, n, v.Object)
}

// report writes the status when it says something new, or when it is time to say again when the node was seen.
func (c *Controller) report(ctx context.Context, n *api.Node, o *v1.MLSysOpsNode) (reconcile.Result, error) {
	now := c.cfg.Now()
	fresh := len(o.Status.Conditions) == 0
	if !fresh && (n.Reason == registry.ReasonRestarted || n.Reason == registry.ReasonTaken) {
		return reconcile.Result{}, nil // nobody knows yet; the registry decides anew when it does
	}
	is := Status(n, &o.Status, o.Generation, now)
	if c, told := virtual(c.cfg.NoRoom(n.ID), &o.Status, o.Generation, now); told {
		is.Conditions = append(is.Conditions, c)
	}
	due := Due(n, &o.Status, c.cfg.Refresh)
	if !Differs(&is, &o.Status) && (due.IsZero() || now.Before(due)) {
		if due.IsZero() {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{RequeueAfter: due.Sub(now) + rand.N(c.cfg.Refresh/5+1)}, nil
	}
	if wait := c.hold(n.ID, now); wait > 0 && !fresh {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if err := c.patchStatus(ctx, o, &is); err != nil {
		return reconcile.Result{}, err
	}
	if due = Due(n, &is, c.cfg.Refresh); due.IsZero() {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: c.cfg.Refresh + rand.N(c.cfg.Refresh/5+1)}, nil
}

// hold is how long to wait before the next write of a node's status; when it may be now, that is noted.
func (c *Controller) hold(node string, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := c.wrote[node].Add(settle).Sub(now); wait > 0 && wait <= settle {
		return wait
	}
	c.wrote[node] = now
	return 0
}

// disown says that nobody knows the node of an object.
func (c *Controller) disown(ctx context.Context, o *v1.MLSysOpsNode) error {
	is := Unknown(&o.Status, o.Generation, c.cfg.Now())
	if !Differs(&is, &o.Status) {
		return nil
	}
	return c.patchStatus(ctx, o, &is)
}

func (c *Controller) patchStatus(ctx context.Context, o *v1.MLSysOpsNode, is *v1.NodeStatus) error {
	err := apply.Status(ctx, c.cfg.Client, o, v1.GroupVersion().WithKind("MLSysOpsNode"), is)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it is gone: its end is a change of its own
	}
	if err != nil {
		return fmt.Errorf("write status of node %s: %w", o.GetName(), err)
	}
	return nil
}

// remove deletes the object of a node that was removed here. Its finalizer is taken off when the deletion is seen.
func (c *Controller) remove(ctx context.Context, o *v1.MLSysOpsNode) error {
	err := c.cfg.Client.Delete(ctx, o, client.Preconditions{UID: &o.UID})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete object of node %s: %w", o.GetName(), err)
	}
	return nil
}

// note remembers which nodes have no object, and says so once each.
func (c *Controller) note(node string, verdict Verdict) {
	c.mu.Lock()
	was := c.refused[node]
	bad := verdict == Foreign || verdict == Unnamable
	delete(c.refused, node)
	if bad {
		c.refused[node] = verdict
	}
	c.mu.Unlock()
	if bad && was != verdict {
		c.cfg.Log.Warn("node has no object in Kubernetes", agent.KeyNode, node, agent.KeyReason, string(verdict))
	}
}

// Trouble says in one line each what is wrong with nodes and their objects.
func (c *Controller) Trouble() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, verdict := range c.refused {
		why := "the agent of another cluster keeps an MLSysOpsNode of that name in namespace " + c.cfg.Namespace + ": give each cluster a namespace (kube.namespace)"
		if verdict == Unnamable {
			why = "its id cannot be the name of an object: a part of it is empty, or begins or ends with '-'"
		}
		out = append(out, fmt.Sprintf("node %s is not in Kubernetes: %s", node, why))
		if len(out) == maxTold {
			return append(out, fmt.Sprintf("node %s and %d others are not in Kubernetes either: see the log", node, len(c.refused)-maxTold))
		}
	}
	return out
}

// maxTold bounds how many nodes Trouble names.
const maxTold = 5
