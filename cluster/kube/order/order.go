// Package order runs NodeCommands: each object is one command in the cluster agent's journal, ordered through the same door
// as all others, and its status is what the journal says.
//
// An object's command has an id made of the object's UID. So whatever is repeated, after a restart, a conflict or a cut, is
// the same command to the journal and to the device. An agent first claims an object (an annotation, written only onto the
// version that was read), then orders, and it alone mirrors the command to its end: where replicas share the nodes, a command
// stays in the journal that took it. Statuses only go forward, which the CRD's rules hold too.
//
// Decide and Status are pure; Controller touches the API server.
package order

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
	"github.com/skerry-edge/skerry/cluster/feed"
	"github.com/skerry-edge/skerry/cluster/kube/apply"
)

// IndexUID is the cache's index of NodeCommands by UID.
const IndexUID = "uid"

// UIDs is what IndexUID indexes.
func UIDs(o client.Object) []string { return []string{string(o.GetUID())} }

// Request is an order. By names the object that it comes from; who made that one, the API server's audit log knows.
type Request struct {
	ID       string
	Node     string
	Verb     string
	Args     map[string]any
	By       string
	Deadline time.Time
}

// Door is the one door for commands: roles, audit, journal.
type Door interface {
	Order(ctx context.Context, r Request) (api.CommandRecord, error)
	Cancel(ctx context.Context, id, by string) error
}

// Journal is where commands are kept.
type Journal interface {
	Get(id string) (rec api.CommandRecord, found bool, err error)
	Watch(ctx context.Context) *feed.Watch[api.CommandRecord]
}

// Config of a Controller. All fields are set.
type Config struct {
	Agent     string // this cluster agent among its replicas
	Namespace string
	Grace     time.Duration
	Door      Door
	Journal   Journal
	Owns      func(node string) Ownership
	Client    client.Client // reads come from a cache
	Live      client.Reader // and these do not
	Leads     func() bool
	Now       func() time.Time
}

// Controller is a reconcile.Reconciler.
type Controller struct{ cfg Config }

// New returns a controller.
func New(cfg Config) *Controller { return &Controller{cfg: cfg} }

// Feed queues every command whose record changes until ctx ends.
func (c *Controller) Feed(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	for ctx.Err() == nil {
		watch := c.cfg.Journal.Watch(ctx)
		if err := c.queueAll(ctx, queue); err != nil { // what changed while nobody watched
			return err
		}
		for change := range watch.Changes() {
			uid, ok := strings.CutPrefix(change.Item.ID, idPrefix)
			if !ok {
				continue
			}
			var found v1alpha1.NodeCommandList
			err := c.cfg.Client.List(ctx, &found, client.InNamespace(c.cfg.Namespace), client.MatchingFields{IndexUID: uid})
			if err != nil {
				return fmt.Errorf("look for the object of command %s: %w", change.Item.ID, err)
			}
			for i := range found.Items {
				queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&found.Items[i])})
			}
		}
		if err := watch.Err(); err != nil && !errors.Is(err, feed.ErrSlow) {
			return err
		}
	}
	return nil
}

func (c *Controller) queueAll(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	var all v1alpha1.NodeCommandList
	if err := c.cfg.Client.List(ctx, &all, client.InNamespace(c.cfg.Namespace)); err != nil {
		return fmt.Errorf("list commands: %w", err)
	}
	for i := range all.Items {
		queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
	}
	return nil
}

// Reconcile takes the next step of one command.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	o := &v1alpha1.NodeCommand{}
	if err := c.cfg.Client.Get(ctx, req.NamespacedName, o); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	step, err := c.decide(o)
	if err != nil {
		return reconcile.Result{}, err
	}
	if step.Submit { // an old copy in the cache must not have a command begin that has ended, or was deleted
		if err := c.cfg.Live.Get(ctx, req.NamespacedName, o); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
		if step, err = c.decide(o); err != nil {
			return reconcile.Result{}, err
		}
	}
	again, err := c.take(ctx, o, step)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil // somebody was quicker: that change comes, or has come
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("command %s/%s: %w", o.Namespace, o.Name, err)
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

func (c *Controller) decide(o *v1alpha1.NodeCommand) (Step, error) {
	v := View{Object: o, Agent: c.cfg.Agent, Leads: c.cfg.Leads(), Owns: c.cfg.Owns(o.Spec.Node), Grace: c.cfg.Grace, Now: c.cfg.Now()}
	rec, found, err := c.cfg.Journal.Get(ID(o))
	if err != nil {
		return Step{}, err
	}
	if found {
		v.Record = &rec
	}
	return Decide(v), nil
}

// take does what step says, and returns when to look again.
func (c *Controller) take(ctx context.Context, o *v1alpha1.NodeCommand, step Step) (time.Duration, error) {
	switch {
	case step.Claim:
		return 0, apply.Metadata(ctx, c.cfg.Client, o, func() {
			controllerutil.AddFinalizer(o, Finalizer)
			if o.Annotations == nil {
				o.Annotations = map[string]string{}
			}
			o.Annotations[AnnotationAgent] = c.cfg.Agent
		})
	case step.Submit:
		return c.submit(ctx, o)
	case step.Cancel:
		if err := c.cfg.Door.Cancel(ctx, ID(o), by(o)); err != nil {
			return 0, err
		}
		return 0, apply.Metadata(ctx, c.cfg.Client, o, func() { controllerutil.RemoveFinalizer(o, Finalizer) })
	case step.Release:
		return 0, apply.Metadata(ctx, c.cfg.Client, o, func() { controllerutil.RemoveFinalizer(o, Finalizer) })
	case step.Delete:
		return 0, c.cfg.Client.Delete(ctx, o, client.Preconditions{UID: &o.UID})
	case step.Status != nil:
		return 0, c.write(ctx, o, step.Status)
	}
	return step.Again, nil
}

// submit orders the command and writes what came of it.
func (c *Controller) submit(ctx context.Context, o *v1alpha1.NodeCommand) (time.Duration, error) {
	deadline, _ := Deadline(o)
	r := Request{ID: ID(o), Node: o.Spec.Node, Verb: o.Spec.Verb, By: by(o), Deadline: deadline}
	if a := o.Spec.Args; a != nil && len(a.Raw) > 0 {
		if err := json.Unmarshal(a.Raw, &r.Args); err != nil {
			return 0, c.write(ctx, o, closed(o, api.PhaseRejected, "args: "+err.Error(), c.cfg.Now()))
		}
	}
	rec, err := c.cfg.Door.Order(ctx, r)
	if err == nil {
		s := Status(o, &rec)
		return 0, c.write(ctx, o, &s)
	}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		switch p.Status {
		case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict: // saying it again does not help
			return 0, c.write(ctx, o, closed(o, api.PhaseRejected, p.Detail, c.cfg.Now()))
		}
	}
	return 0, err // full, starting, or out of disk: again, until the deadline
}

func by(o *v1alpha1.NodeCommand) string {
	return clip("kube:"+o.Namespace+"/"+o.Name, api.MaxLabelBytes)
}

// write applies the whole status.
func (c *Controller) write(ctx context.Context, o *v1alpha1.NodeCommand, s *v1alpha1.NodeCommandStatus) error {
	return apply.Status(ctx, c.cfg.Client, o, v1alpha1.GroupVersion().WithKind("NodeCommand"), s)
}
