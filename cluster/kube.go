package cluster

import (
	"context"
	"errors"
	"net/http"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/access"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/kube"
	"github.com/skerry-edge/skerry/cluster/kube/order"
	"github.com/skerry-edge/skerry/cluster/rest"
	"github.com/skerry-edge/skerry/configs"
)

// viaKube is how the audit log names the way of what comes from Kubernetes.
const viaKube = "kube"

// k3sKubeconfig is where k3s writes an administrator's kubeconfig.
const k3sKubeconfig = "/etc/rancher/k3s/k3s.yaml"

// newKube returns the bridge to Kubernetes, nil when there is none.
func (a *Agent) newKube() *kube.Bridge {
	if a.cfg.Mode == configs.ModeStandalone {
		return nil
	}
	k := a.cfg.Kube
	file := k.Kubeconfig
	if file == "" && a.cfg.Mode == configs.ModeK3s {
		file = k3sKubeconfig
	}
	return kube.New(kube.Config{Virtual: a.virtual(), Cluster: a.cfg.Cluster, Replica: a.cfg.Replica.Name, Kubeconfig: file, Namespace: k.Namespace, Layer: k.Layer,
		Refresh: k.Refresh, Grace: a.cfg.Commands.Grace, InstallCRD: k.InstallCRDs, Registry: a.registry, Fleet: kubeFleet{a}, Door: kubeDoor{a}, Rollouts: kubeRollouts{a},
		Journal: a.journal, Log: a.log, Now: a.clock.Now})
}

// kubeFleet decommissions devices whose objects were deleted.
type kubeFleet struct{ *Agent }

func (a kubeFleet) Decommission(ctx context.Context, node, by string) error {
	err := fleet(a).Remove(ctx, node, by)
	entry := api.AuditEntry{By: by, Role: api.RoleAdmin, Via: viaKube, Action: "node.remove", Object: node, Result: access.ResultOK}
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusNotFound {
		return nil // it was removed before
	}
	if err != nil {
		entry.Result = err.Error()
	}
	a.record(entry)
	return err
}

// kubeDoor is the door for NodeCommands. Who may create them, Kubernetes decides; they have the role that the configuration
// gives them.
type kubeDoor struct{ *Agent }

func (a kubeDoor) Order(ctx context.Context, r order.Request) (api.CommandRecord, error) {
	who := rest.Principal{Name: r.By, Role: api.Role(a.cfg.Kube.CommandRole), From: viaKube}
	entry := api.AuditEntry{By: who.Name, Role: who.Role, Via: viaKube, Action: "command.create", Result: access.ResultOK,
		Object: clip(r.Verb + " " + r.Node + " " + r.ID)}
	rec, err := a.order(ctx, command.Order{ID: r.ID, Node: r.Node, Verb: r.Verb, Args: r.Args, By: r.By, Deadline: r.Deadline,
		Journalled: func(tx *bbolt.Tx) error {
			_, err := a.audit.AppendTx(tx, entry)
			return err
		}}, who)
	if err != nil {
		entry.Result = err.Error()
		a.record(entry)
	}
	return rec, err
}

func (a kubeDoor) Cancel(ctx context.Context, id, by string) error {
	_, err := a.journal.Cancel(ctx, id, by)
	if errors.Is(err, command.ErrFinal) || errors.Is(err, command.ErrNotFound) {
		return nil
	}
	entry := api.AuditEntry{By: by, Role: api.Role(a.cfg.Kube.CommandRole), Via: viaKube, Action: "command.cancel", Object: id, Result: access.ResultOK}
	if err != nil {
		entry.Result = err.Error()
	}
	a.record(entry)
	return orderProblem(err)
}
