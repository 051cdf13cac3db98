package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/access"
	"github.com/skerry-edge/skerry/cluster/kube/wave"
)

// kubeRollouts is the store of rollouts for objects of Kubernetes. Who may create them, Kubernetes decides; they have the role that the
// configuration gives to all that comes from there.
type kubeRollouts struct{ *Agent }

func (a kubeRollouts) Find(name, id string) (api.Rollout, bool) {
	r, err := a.rollout.Get(name)
	return r, err == nil && r.ID == id
}

func (a kubeRollouts) Take(o wave.Order) (api.Rollout, error) {
	role := api.Role(a.cfg.Kube.CommandRole)
	if !role.Includes(api.RoleAdmin) {
		return api.Rollout{}, &api.Problem{Status: http.StatusForbidden, Title: "forbidden", Code: "forbidden",
			Detail: fmt.Sprintf("a rollout takes the role admin; kube.command_role of the cluster agent is %s", role), Cure: "kube.command_role: admin"}
	}
	r, err := rollouts(a).create(o.Spec, o.By, func(r *api.Rollout) {
		r.ID, r.Object = o.ID, true
		if o.Paused {
			r.State, r.Reason = api.RolloutPaused, "by "+o.By
		}
	})
	if err == nil { // a refusal is in the object's status, again and again
		a.audited(o.By, "rollout.create", o.Spec.Name+" to "+o.Spec.Version, nil)
	}
	return r, err
}

func (a kubeRollouts) Act(ctx context.Context, name, action, by string) error {
	_, err := rollouts(a).act(ctx, name, action, act{by: by, via: by})
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusConflict {
		return nil // somebody was quicker
	}
	a.audited(by, "rollout."+action, name, err)
	return err
}

// audited writes down what an object had done.
func (a kubeRollouts) audited(by, action, object string, err error) {
	entry := api.AuditEntry{By: by, Role: api.Role(a.cfg.Kube.CommandRole), Via: viaKube, Action: action, Object: clip(object), Result: access.ResultOK}
	if err != nil {
		entry.Result = err.Error()
	}
	a.record(entry)
}
