package cluster

import (
	"context"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/mqtt"
)

// Enrolled, Merged and Revoked are how enrolment tells the rest.
func (a *Agent) Enrolled(n api.Node) error {
	another, err := a.replaced(n)
	if err == nil && another {
		err = a.clearRetained(a.life, n.ID)
	}
	if err != nil {
		return err
	}
	return a.enrolled(n)
}

// Merged leaves alone what the broker keeps of the node: the replica that enrolled it has cleared what was the old device's,
// and what is there now is the new one's.
func (a *Agent) Merged(n api.Node) error {
	if _, err := a.replaced(n); err != nil {
		return err
	}
	return a.enrolled(n)
}

// replaced reports whether n is another device under an old id, and then ends what the old one was ordered.
func (a *Agent) replaced(n api.Node) (bool, error) {
	old, known := a.registry.Get(n.ID)
	if !known || old.KeySHA256 == n.KeySHA256 {
		return false, nil
	}
	return true, a.journal.Abandon(n.ID, "another device took this node's place")
}

func (a *Agent) enrolled(n api.Node) error {
	err := a.registry.Enrolled(registry.Enrolment{Node: n.ID, KeySHA256: n.KeySHA256, Certificate: n.Certificate, Labels: n.Labels})
	if err == nil && a.share != nil {
		a.share.admitted(n.ID)
	}
	return err
}

// clearRetained has the broker forget what a node said; nobody should read the word of a device that is gone.
func (a *Agent) clearRetained(ctx context.Context, node string) error {
	for _, e := range mqtt.Contract() {
		if e.Retain && e.Dir != mqtt.Among {
			if err := a.wire.Publish(ctx, a.topics.Of(e.Kind, node, ""), nil, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// presence is how a node is now; empty: it is not known.
func (a *Agent) presence(node string) api.Presence {
	n, _ := a.registry.Get(node)
	return n.Presence
}

// Revoked ends the sessions of somebody whose certificates are no good any more.
func (a *Agent) Revoked(who mqtt.Identity) {
	a.wire.Kick(who.CommonName())
	if a.share != nil && who.Kind == mqtt.NodeIdentity {
		a.share.admitted(who.Name)
	}
}
