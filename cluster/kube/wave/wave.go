// Package wave carries out Rollouts: each object is one rollout in the store of the cluster agent, which drives it as any that was created by
// REST or on the command line; the object's status says how it stands.
//
// A rollout has an id made of the object's UID, so whatever is repeated is the same rollout, and each of its updates the same command. An agent
// first claims an object, then begins. Deletion aborts, by a finalizer.
//
// Decide and Status are pure; Controller touches the API server.
package wave

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
	"github.com/skerry-edge/skerry/cluster/kube/apply"
)

// Order is a rollout that an object asks for. By names the object.
type Order struct {
	ID     string
	Spec   api.RolloutSpec
	By     string
	Paused bool // from the beginning
}

// Store is where rollouts are kept and driven. Errors that the object caused are *api.Problem.
type Store interface {
	// Find returns the rollout of a name, if it has this id.
	Find(name, id string) (r api.Rollout, found bool)
	Take(o Order) (api.Rollout, error)
	// Act pauses, resumes or aborts.
	Act(ctx context.Context, name, action, by string) error
}

// Config of a Controller. All fields are set.
type Config struct {
	Agent     string // this cluster agent among its replicas
	Namespace string
	Store     Store
	Client    client.Client // reads come from a cache
	Live      client.Reader // and these do not
	Leads     func() bool
	Now       func() time.Time
}

// Controller is a reconcile.Reconciler.
type Controller struct{ cfg Config }

// New returns a controller.
func New(cfg Config) *Controller { return &Controller{cfg: cfg} }

const (
	lookEvery  = time.Second      // at the store, for what has changed
	againAfter = 15 * time.Second // one that could not be taken is tried again
)

// Feed queues every rollout that is not over, again and again until ctx ends: looking costs the API server nothing.
func (c *Controller) Feed(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	for {
		var all v1alpha1.RolloutList
		if err := c.cfg.Client.List(ctx, &all, client.InNamespace(c.cfg.Namespace)); err != nil {
			return fmt.Errorf("list rollouts: %w", err)
		}
		for i := range all.Items {
			if o := &all.Items[i]; o.Status.Phase != v1alpha1.RolloutPending && !api.RolloutState(o.Status.Phase).Final() {
				queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o)})
			}
		}
		if !agent.Wait(ctx, lookEvery) {
			return nil
		}
	}
}

// Reconcile takes the next step of one rollout.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	o := &v1alpha1.Rollout{}
	if err := c.cfg.Client.Get(ctx, req.NamespacedName, o); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	step := c.decide(o)
	if step.Take || step.Act != "" { // an old copy in the cache must not begin what has ended, nor resume what was paused
		if err := c.cfg.Live.Get(ctx, req.NamespacedName, o); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
		step = c.decide(o)
	}
	again, err := c.take(ctx, o, step)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil // somebody was quicker: that change comes, or has come
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("rollout %s/%s: %w", o.Namespace, o.Name, err)
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

func (c *Controller) decide(o *v1alpha1.Rollout) Step {
	v := View{Object: o, Agent: c.cfg.Agent, Leads: c.cfg.Leads(), Now: c.cfg.Now()}
	if r, found := c.cfg.Store.Find(o.Name, ID(o)); found {
		v.Record = &r
	}
	return Decide(v)
}

// take does what step says, and returns when to look again.
func (c *Controller) take(ctx context.Context, o *v1alpha1.Rollout, step Step) (time.Duration, error) {
	switch {
	case step.Claim:
		return 0, apply.Metadata(ctx, c.cfg.Client, o, func() {
			controllerutil.AddFinalizer(o, Finalizer)
			if o.Annotations == nil {
				o.Annotations = map[string]string{}
			}
			o.Annotations[AnnotationAgent] = c.cfg.Agent
		})
	case step.Take:
		return c.begin(ctx, o)
	case step.Act != "":
		return time.Millisecond, c.cfg.Store.Act(ctx, o.Name, step.Act, by(o))
	case step.Release:
		return 0, apply.Metadata(ctx, c.cfg.Client, o, func() { controllerutil.RemoveFinalizer(o, Finalizer) })
	case step.Status != nil:
		return 0, c.write(ctx, o, step.Status)
	}
	return 0, nil
}

// begin has the store take the rollout, or writes why it does not.
func (c *Controller) begin(ctx context.Context, o *v1alpha1.Rollout) (time.Duration, error) {
	spec, err := Spec(o)
	if err == nil {
		var r api.Rollout
		if r, err = c.cfg.Store.Take(Order{ID: ID(o), Spec: spec, By: by(o), Paused: o.Spec.Paused}); err == nil {
			return 0, c.write(ctx, o, Status(o, &r))
		}
		p, told := errors.AsType[*api.Problem](err)
		if !told {
			return 0, err
		}
		err = errors.New(p.Detail)
	}
	if step := changed(o, pending(o, err.Error(), c.cfg.Now())); step.Status != nil {
		return againAfter, c.write(ctx, o, step.Status)
	}
	return againAfter, nil
}

func by(o *v1alpha1.Rollout) string {
	s := "kube:" + o.Namespace + "/" + o.Name
	return s[:min(len(s), api.MaxLabelBytes)]
}

// write applies the whole status.
func (c *Controller) write(ctx context.Context, o *v1alpha1.Rollout, s *v1alpha1.RolloutStatus) error {
	return apply.Status(ctx, c.cfg.Client, o, v1alpha1.GroupVersion().WithKind("Rollout"), s)
}
