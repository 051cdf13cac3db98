package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/rest"
	"github.com/skerry-edge/skerry/cluster/rollout"
)

// rolloutEvery is how often rollouts are looked after.
const rolloutEvery = time.Second

// rollouts drives what package rollout decides. A rollout belongs to the cluster agent that took it, which alone drives it, and orders
// only nodes that it acts for: one that another replica acts for waits, and its entry says so.
type rollouts struct{ *Agent }

// Run looks after all rollouts until ctx ends.
func (a rollouts) Run(ctx context.Context) error {
	for agent.Wait(ctx, rolloutEvery) {
		for _, r := range a.rollout.List() {
			if r.State.Final() {
				continue
			}
			if err := a.drive(ctx, r.Name); err != nil && ctx.Err() == nil {
				a.log.Warn("rollout not driven", agent.KeyReason, r.Name, agent.KeyErr, err)
			}
		}
	}
	return nil
}

// drive moves one on. What is to be ordered is kept first: an order that was kept and not given is given at the next look.
func (a rollouts) drive(ctx context.Context, name string) error {
	before := api.RolloutState("")
	r, err := a.rollout.Change(name, func(r *api.Rollout) (bool, error) {
		before = r.State
		_, changed := rollout.Decide(r, func(node string) rollout.Fact { return a.fact(r, node) }, a.clock.Now())
		return changed, nil
	})
	if err != nil {
		return err
	}
	if r.State != before {
		a.tellRollout(&r)
	}
	var late []error
	refused := map[string]api.RolloutNode{}
	for _, m := range r.Members {
		if m.State != api.RolloutUpdating {
			continue
		}
		p, err := a.orderUpdate(ctx, &r, m)
		if late = append(late, err); p == nil {
			continue
		}
		m.State, m.Reason = api.RolloutLost, clip(p.Detail)
		if a.elsewhere(m.Node) != nil { // it may come back; nothing was begun
			m.State = api.RolloutWaiting
		}
		refused[m.Node] = m
	}
	return errors.Join(append(late, a.noteRefused(name, refused))...)
}

// noteRefused keeps which nodes could not be ordered, all at once: each time all of the rollout is written.
func (a rollouts) noteRefused(name string, refused map[string]api.RolloutNode) error {
	if len(refused) == 0 {
		return nil
	}
	_, err := a.rollout.Change(name, func(r *api.Rollout) (changed bool, err error) {
		for i := range r.Members {
			m := &r.Members[i]
			if now, is := refused[m.Node]; is && m.State == api.RolloutUpdating {
				*m, changed = now, true
			}
		}
		return changed, nil
	})
	return err
}

// fact is what is known of a node.
func (a rollouts) fact(r *api.Rollout, node string) rollout.Fact {
	var f rollout.Fact
	n, ok := a.registry.Get(node)
	f.Known = ok
	if ok && n.Birth != nil {
		f.Version = strings.TrimPrefix(n.Birth.Version, "v")
	}
	if rec, found, err := a.journal.Get(rollout.CommandID(r.ID, node)); err == nil && found {
		f.Command = &rec
	}
	if p, other := errors.AsType[*api.Problem](a.elsewhere(node)); other {
		f.Elsewhere = clip(p.Detail + "; " + p.Cure)
	}
	return f
}

// orderUpdate gives a node its order, once: the id is the same each time. Refused is why it never will be given.
func (a rollouts) orderUpdate(ctx context.Context, r *api.Rollout, m api.RolloutNode) (refused *api.Problem, err error) {
	if _, found, err := a.journal.Get(m.Command); err != nil || found {
		return nil, err
	}
	args := map[string]any{"version": r.Version}
	if r.URL != "" {
		args["url"] = r.URL
	}
	if r.Force {
		args["force"] = true
	}
	if r.Window != "" && a.takes(m.Node, "agent.update", "window") {
		args["window"] = r.Window
	}
	by := "rollout:" + r.Name
	_, err = a.order(ctx, command.Order{ID: m.Command, Node: m.Node, Verb: "agent.update", Args: args, By: by,
		Deadline: a.clock.Now().Add(time.Duration(r.NodeSeconds) * time.Second)}, rest.Principal{Name: by, Role: api.RoleAdmin, From: "rollout"})
	p, told := errors.AsType[*api.Problem](err)
	if err == nil || !told || p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		return nil, err // of what is not told, the next look tries again
	}
	return p, nil
}

// tellRollout tells of a turn as an event.
func (a rollouts) tellRollout(r *api.Rollout) {
	class := api.ClassEvent
	if r.State == api.RolloutPaused || r.State == api.RolloutFailed {
		class = api.ClassAlarm
	}
	a.note(class, "rollout."+string(r.State), r.Name, clip(fmt.Sprintf("to %s: %d succeeded, %d failed, %d skipped. %s", r.Version, r.Counts.Succeeded,
		r.Counts.Failed, r.Counts.Skipped, r.Reason)))
}

// List tells of all, without their nodes: a hundred rollouts of a large fleet are 60 MB.
func (a rollouts) List() []api.Rollout {
	all := a.rollout.List()
	for i := range all {
		all[i] = all[i].Summary()
	}
	return all
}

func (a rollouts) Get(name string) (api.Rollout, error) {
	r, err := a.rollout.Get(name)
	return r, rolloutProblem(err)
}

func (a rollouts) Create(spec api.RolloutSpec, who rest.Principal) (api.Rollout, error) {
	return a.create(spec, who.Name, func(*api.Rollout) {})
}

// create begins a rollout, as change makes it.
func (a rollouts) create(spec api.RolloutSpec, by string, change func(*api.Rollout)) (api.Rollout, error) {
	if err := spec.Validate(); err != nil {
		return api.Rollout{}, badRequest("rollout", err)
	}
	version, kept, err := a.offered(spec.Version, spec.URL)
	if err != nil {
		return api.Rollout{}, err
	}
	spec.Version = version
	nodes, err := orders(a).targets(api.CommandRequest{Nodes: spec.Nodes, Selector: spec.Selector})
	if err != nil {
		return api.Rollout{}, err
	}
	if err := a.fits(kept, nodes); err != nil {
		return api.Rollout{}, err
	}
	a.versions.Lock()
	defer a.versions.Unlock()
	for _, n := range nodes {
		known, ok := a.registry.Get(n)
		if !ok {
			return api.Rollout{}, orderProblem(fmt.Errorf("node %q: %w", n, command.ErrUnknownNode))
		}
		if w := known.Wanted; w != nil && w.Version != spec.Version { // the node would be told to go two ways
			return api.Rollout{}, &api.Problem{Status: http.StatusConflict, Title: "conflict", Code: "version_assigned",
				Detail: fmt.Sprintf("node %s is assigned version %s", n, w.Version), Cure: "skerry release unassign " + n}
		}
	}
	r := rollout.New(spec, nodes, by, a.clock.Now())
	change(&r)
	if err := a.rollout.Create(r); err != nil {
		return api.Rollout{}, rolloutProblem(err)
	}
	a.tellRollout(&r)
	return r, nil
}

// Act pauses, resumes or aborts.
func (a rollouts) Act(ctx context.Context, name, action string, who rest.Principal) (api.Rollout, error) {
	return a.act(ctx, name, action, act{by: who.Name, via: "rest:" + who.Name})
}

// act is who has a rollout do something.
type act struct{ by, via string }

func (a rollouts) act(ctx context.Context, name, action string, who act) (api.Rollout, error) {
	var open []string
	r, err := a.rollout.Change(name, func(r *api.Rollout) (bool, error) {
		var err error
		switch action {
		case "pause":
			err = rollout.Pause(r, who.by, a.clock.Now())
		case "resume":
			err = rollout.Resume(r, a.clock.Now())
		case "abort":
			open, err = rollout.Abort(r, who.by, a.clock.Now())
		}
		return true, err
	})
	if err != nil {
		return r, rolloutProblem(err)
	}
	a.tellRollout(&r)
	for _, id := range open { // those that have switched already go on to their end
		if _, err := a.journal.Cancel(ctx, id, who.via); err != nil && !errors.Is(err, command.ErrFinal) && !errors.Is(err, command.ErrNotFound) {
			a.log.Warn("update not cancelled", agent.KeyCommand, id, agent.KeyErr, err)
		}
	}
	return r, nil
}

func rolloutProblem(err error) error {
	_, late := errors.AsType[*rollout.StateError](err)
	switch {
	case errors.Is(err, rollout.ErrUnknown):
		return &api.Problem{Status: http.StatusNotFound, Title: "no such rollout", Code: "rollout_unknown", Detail: err.Error(), Cure: "skerry rollout list"}
	case late, errors.Is(err, rollout.ErrConflict):
		return &api.Problem{Status: http.StatusConflict, Title: "conflict", Code: "rollout_conflict", Detail: err.Error(), Cure: "skerry rollout show tells how it stands"}
	}
	return err
}
