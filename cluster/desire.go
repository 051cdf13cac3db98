package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/kube/vnode"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/mqtt"
)

// Workloads returns those of a node's desired document, and the room for them.
func (a *Agent) Workloads(node string) (list []api.Workload, room int, err error) {
	d, err := a.registry.DesiredFor(node, 1)
	if err != nil {
		return nil, 0, err
	}
	if d == nil {
		d = &api.Desired{}
	}
	room, err = registry.Room(d)
	return d.Workloads, room, err
}

// SetWorkloads changes what a node should run, and tells it when it is there. One that is not is told when it is back.
func (a *Agent) SetWorkloads(node string, change func(now []api.Workload, room int) []api.Workload) error {
	return a.setDesired(node, func(d *api.Desired) error {
		room, err := registry.Room(d)
		if err != nil {
			return err
		}
		d.Workloads = change(d.Workloads, room)
		return nil
	})
}

// setDesired changes what a node should be, and tells it when it is there.
func (a *Agent) setDesired(node string, change func(*api.Desired) error) error {
	was, _ := a.registry.Get(node)
	rev, err := a.registry.SetDesired(node, change)
	if err != nil || rev == was.Desired {
		return err
	}
	if n, ok := a.registry.Get(node); ok && (n.Presence == api.PresenceOnline || n.Presence == api.PresenceDraining) {
		if err := a.sendDesired(a.life, node, n.Epoch); err != nil { // it is kept: the next session begins with it
			a.log.Warn("desired document not sent; the node's next session begins with it", agent.KeyNode, node, agent.KeyErr, err)
		}
	}
	return nil
}

// errNoKey is for a node that has not said what to seal to.
var errNoKey = errors.New("the node has not told its public key yet: it has never connected, or its agent is too old")

// Seal encrypts secrets for a node alone: to the key that it told and that is the one enrolled.
func (a *Agent) Seal(node, workload string, secrets *api.Secrets) (*api.Sealed, error) {
	n, ok := a.registry.Get(node)
	if !ok || n.Birth == nil || len(n.Birth.Key) == 0 {
		return nil, errNoKey
	}
	if sum := sha256.Sum256(n.Birth.Key); hex.EncodeToString(sum[:]) != n.KeySHA256 {
		return nil, fmt.Errorf("the key that node %s told is not the one that it enrolled with", node)
	}
	key, err := x509.ParsePKIXPublicKey(n.Birth.Key)
	if err != nil {
		return nil, fmt.Errorf("key of node %s: %w", node, err)
	}
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("key of node %s is %T; wanted ECDSA on P-256, as the node agent makes", node, key)
	}
	seed := sha256.Sum256(append([]byte("skerry/v1 id of sealed "), a.authority.OrderSigner().Seed()...))
	return mqtt.SealSecrets(pub, mqtt.Place{Node: node, Workload: workload}, secrets, seed[:])
}

// Device tells how a node stands. One that no replica acts for at the moment is elsewhere, and so is one that was taken over and whose
// document the broker has not said yet: what is stored here may be of long ago.
func (a *Agent) Device(id string) (*api.Node, vnode.Standing) {
	n, ok := a.registry.Get(id)
	switch {
	case ok && a.registry.MayTell(id) && (a.share == nil || n.Owner != nil):
		return &n, vnode.Here
	case ok:
		return nil, vnode.Elsewhere
	}
	if _, removed, err := a.registry.Tombstone(id); err != nil || !removed {
		return nil, vnode.Unknown
	}
	return nil, vnode.Removed
}

// Watch calls changed with every node, and then with each that changes, until ctx ends.
func (a *Agent) Watch(ctx context.Context, changed func(id string)) error {
	for ctx.Err() == nil {
		all, watch := a.registry.Watch(ctx)
		for i := range all {
			changed(all[i].ID)
		}
		for c := range watch.Changes() {
			changed(c.Item.ID)
		}
		watch.Close() // it ends early only for one that is too slow: begin anew
	}
	return nil
}
