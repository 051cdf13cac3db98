package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/kube"
)

// joinGrace is how long after a command's deadline its token is good: k3s takes a while to join.
const joinGrace = 10 * time.Minute

// k3sNode is the name of the machine's own node, beside the one that stands for the device.
func k3sNode(node string) string { return node + "-k3s" }

// prepared is o with what the cluster agent adds to the verbs of k3s, whichever door it came through: to k3s.join a token, sealed to the
// device, so that neither the journal nor anybody who reads it has it. A command that is repeated is left as it was.
func (a *Agent) prepared(ctx context.Context, o command.Order) (command.Order, error) {
	if o.Verb != api.VerbK3sJoin && o.Verb != api.VerbK3sLeave {
		return o, nil
	}
	if o.ID != "" {
		if rec, found, err := a.journal.Get(o.ID); err != nil || found {
			o.Args = rec.Args
			return o, err
		}
	}
	if a.kube == nil {
		return o, k3sProblem(errors.New("this cluster agent has no Kubernetes"), "set mode: k3s or kube in /etc/skerry/cluster.yaml")
	}
	name := k3sNode(o.Node)
	if !api.ValidDNSName(name) || len(name) > 63 {
		return o, k3sProblem(fmt.Errorf("%s cannot be the name of a node; wanted a DNS name of at most 63 characters", name), "")
	}
	want, err := joinArgs(o)
	if err != nil {
		return o, k3sProblem(err, "")
	}
	n, known := a.registry.Get(o.Node)
	if !known {
		return o, nil // whoever journals says so
	}
	if n.Presence != api.PresenceOnline { // its Node would be gone, and k3s run on
		return o, k3sProblem(fmt.Errorf("device %s is not there: %s", o.Node, n.Presence), "order it while the device is online")
	}
	if verbs, _ := a.registry.Verbs(o.Node); !slices.ContainsFunc(verbs, func(v api.Verb) bool { return v.Name == o.Verb }) {
		return o, k3sProblem(fmt.Errorf("device %s does not offer %s", o.Node, o.Verb), "set k3s.allow: true in /etc/skerry/edge.yaml on the device")
	}
	if err := a.kube.Forget(ctx, name); err != nil { // or k3s refuses a device that was installed anew: its node password is another
		return o, k3sProblem(err, kubeCure)
	}
	if o.Verb == api.VerbK3sLeave {
		return o, nil
	}
	join, err := a.kube.Join(ctx, kube.JoinRequest{Server: want, Until: o.Deadline.Add(joinGrace), For: o.Node})
	if err != nil {
		return o, k3sProblem(err, kubeCure)
	}
	sealed, err := a.Seal(o.Node, api.VerbK3sJoin, &api.Secrets{Files: map[string][]api.File{"k3s": {{Path: "token", Mode: 0o600, Data: []byte(join.Token)}}}})
	if err != nil {
		return o, k3sProblem(err, "")
	}
	raw, err := json.Marshal(api.K3sJoin{Server: join.Server, Name: name, Sealed: sealed})
	if err != nil {
		return o, err
	}
	o.Args = nil
	return o, json.Unmarshal(raw, &o.Args)
}

const kubeCure = "see skerry doctor, and give it the rights for k3s.join: skerry-cluster rbac --k3s-join | kubectl apply -f -"

// joinArgs is the server that a caller wants; nothing else can be asked for.
func joinArgs(o command.Order) (server string, err error) {
	for key, v := range o.Args {
		s, text := v.(string)
		if key != "server" || !text || o.Verb != api.VerbK3sJoin {
			return "", fmt.Errorf("args.%.63s: wanted nothing, or for %s server, the URL of a k3s server as the device reaches it", key, api.VerbK3sJoin)
		}
		server = s
	}
	return server, nil
}

func k3sProblem(err error, cure string) error {
	return &api.Problem{Status: http.StatusConflict, Title: "k3s cannot be joined or left", Code: "k3s", Detail: err.Error(), Cure: cure}
}
