package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/enroll"
	"github.com/skerry-edge/skerry/mqtt"
)

// serveLeave removes the node that asks for it: a device that is taken out of service, by its own certificate. It can remove no other.
func (a *Agent) serveLeave(w http.ResponseWriter, r *http.Request) {
	who, shown := enroll.IdentityFrom(r.Context())
	if !shown || who.Kind != mqtt.NodeIdentity {
		a.answerLeave(w, http.StatusUnauthorized, &api.Problem{Status: http.StatusUnauthorized, Title: "not a node", Code: "certificate_missing",
			Detail: "no certificate of a node was shown", Cure: "administrators remove a node with: skerry node remove NODE"})
		return
	}
	// It goes on when the device has gone: half a removal is none.
	if err := (fleet{a}).Remove(context.WithoutCancel(r.Context()), who.Name, "node:"+who.Name); err != nil {
		p, told := errors.AsType[*api.Problem](err)
		if !told {
			a.log.Error("node cannot leave", agent.KeyNode, who.Name, agent.KeyErr, err)
			p = &api.Problem{Status: http.StatusInternalServerError, Title: "not removed", Code: "internal", Detail: "the cluster agent failed",
				Cure: "an administrator removes the node with: skerry node remove " + who.Name}
		}
		a.answerLeave(w, p.Status, p)
		return
	}
	a.log.Info("node left", agent.KeyNode, who.Name)
	a.answerLeave(w, http.StatusOK, api.EnrollReply{Status: api.EnrollLeft, Node: who.Name, Cluster: a.cfg.Cluster, Time: api.At(a.clock.Now())})
}

func (a *Agent) answerLeave(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.log.Debug("answer not delivered", agent.KeyErr, err) // the device asks again
	}
}
