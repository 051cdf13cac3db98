package registry

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// SetOwners takes which of several cluster agents acts for nodes. What was known of a node's connection in this run counts
// no more when it changes hands: the broker says it again to whoever takes over. A node that another one acts for is elsewhere:
// it is not missed here. Of one that is taken over, the desired document is not changed until Adopt or Heard. Nodes that are not known
// are passed over.
func (r *Registry) SetOwners(owners map[string]*api.Owner) error {
	now := r.cfg.Now()
	var changed []string
	r.mu.Lock()
	for id, o := range owners {
		n := r.nodes[id]
		if n == nil || n.removed || n.owner != nil && *n.owner == *o {
			continue
		}
		if n.owner == nil || n.owner.Here != o.Here {
			n.facts = n.facts.restored()
			n.facts.Taken = now
			n.seen.Store(0)
			n.unheard = o.Here
		}
		n.owner, n.facts.Elsewhere = o, elsewhere(o)
		before := r.nodesIn.Version()
		r.decide(n, now)
		if r.nodesIn.Version() == before {
			r.publish(n)
		}
		if n.version > n.durable {
			changed = append(changed, id)
		}
	}
	r.mu.Unlock()
	for len(changed) > 0 {
		k := min(len(changed), flushPerTx)
		if err := r.persist(changed[:k]...); err != nil {
			return err
		}
		changed = changed[k:]
	}
	return nil
}

// elsewhere is why nothing is known of a node here; empty when this cluster agent acts for it.
func elsewhere(o *api.Owner) string {
	switch {
	case o.Here:
		return ""
	case o.Replica == "":
		return "no replica acts for it at present, as far as this one knows"
	case o.URL == "":
		return fmt.Sprintf("replica %s acts for it", o.Replica)
	}
	return fmt.Sprintf("replica %s acts for it; ask %s", o.Replica, o.URL)
}

// Heard says that there is no more to hear of what nodes were told by others.
func (r *Registry) Heard(ids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if n := r.nodes[id]; n != nil && n.unheard {
			n.unheard = false
			r.publish(n) // whoever had to wait looks again
		}
	}
}

// MayTell reports whether what a node should be may be changed here.
func (r *Registry) MayTell(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := r.nodes[id]
	return n != nil && n.mayTell()
}

// mayTell: caller holds mu.
func (n *node) mayTell() bool { return n.owner == nil || n.owner.Here && !n.unheard }

// Adopt takes a desired document that another cluster agent published for a node, if its generation is beyond what is known
// here, and reports whether it was. Another content under the same generation is taken under one that nobody has: who of the two was
// heard by the node is not known, and it takes none twice.
func (r *Registry) Adopt(d *api.Desired) (taken bool, err error) {
	hash, _, err := HashDesired(d)
	if err == nil && hash != d.Hash {
		err = fmt.Errorf("%w: hash %.12s of the desired document; wanted %.12s", ErrInvalid, d.Hash, hash)
	}
	if err != nil {
		return false, fmt.Errorf("adopt desired of node %s: %w", d.Node, err)
	}
	kept := *d
	kept.Epoch, kept.Issued, kept.Expires, kept.Claim = 0, 0, 0, nil
	r.mu.RLock()
	told := r.nodes[d.Node].told()
	r.mu.RUnlock()
	err = r.group.Do(func(tx *bbolt.Tx) error {
		taken, kept.Generation = false, d.Generation
		if tx.Bucket([]byte(bucketNode)).Get([]byte(d.Node)) == nil {
			return ErrUnknown
		}
		was, err := readDesired(tx, d.Node)
		if err != nil {
			return err
		}
		floor, err := generation(tx, d.Node)
		switch other := was.Generation == d.Generation && was.Hash != d.Hash; {
		case err != nil:
			return err
		case d.Generation == floor && other:
			kept.Generation = max(floor, told) + 1
		case d.Generation <= floor:
			return nil
		}
		taken = true
		return writeJSON(tx, bucketDesired, d.Node, &kept)
	}, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		n := r.nodes[d.Node]
		if n == nil || !taken && !n.unheard {
			return
		}
		if n.unheard = false; taken {
			n.desired, n.want = api.Revision{Generation: kept.Generation, Hash: d.Hash}, d.Agent
		}
		r.publish(n)
	})
	if errors.Is(err, ErrUnknown) {
		return false, fmt.Errorf("adopt desired of node %s: %w", d.Node, err)
	}
	return taken, err
}

// UserLabels are the labels that people gave a node.
func (r *Registry) UserLabels(id string) map[string]string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if n, err := r.find(id); err == nil {
		return n.row.UserLabels
	}
	return nil
}

// ReplaceLabels takes the labels that people gave a node where another cluster agent acted for it: these and no others.
func (r *Registry) ReplaceLabels(id string, labels map[string]string) error {
	labels, _ = api.GoodLabels("labels", labels)
	return r.update(id, func(n *node, _ time.Time) error {
		if !maps.Equal(n.row.UserLabels, labels) {
			n.row.UserLabels = maps.Clone(labels)
			n.relabel()
			n.touch()
			r.publish(n)
		}
		return nil
	})
}
