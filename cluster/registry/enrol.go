package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// Enrolment is a node that got a certificate. Labels are those of its token; what cannot be a label is left out.
type Enrolment struct {
	Node        string
	KeySHA256   string
	Certificate api.Certificate
	Labels      map[string]string
}

// Tombstone remembers a removed node: what comes of it later is not to bring it back, and a node that enrols under its
// id begins above its last desired generation, which an old copy of the node might still hold.
type Tombstone struct {
	Node       string     `json:"node"`
	KeySHA256  string     `json:"keySha256"`
	At         api.Millis `json:"at"`
	By         string     `json:"by"`
	Generation uint64     `json:"generation"`
}

// The bounds of the tombstones; the oldest go first.
const (
	maxTombstones = 10_000
	keepTombstone = 365 * 24 * time.Hour
)

// Enrolled admits a node, or renews what is known of one: with the same key its certificate and token labels; with
// another key it is a new device under an old id, whose sessions are counted anew while desired document, user labels
// and counters stay. It is on disk when Enrolled returns nil.
func (r *Registry) Enrolled(e Enrolment) error {
	if err := api.ValidID("node", e.Node); err != nil {
		return fmt.Errorf("enrol: %w: %w", ErrInvalid, err)
	}
	e.Labels, _ = api.GoodLabels("labels", e.Labels) // an old token's fault, told when it entered, keeps no device out
	if e.KeySHA256 == "" {
		return fmt.Errorf("enrol node %s: key digest is empty: %w", e.Node, ErrInvalid)
	}
	now := r.cfg.Now()
	if err := r.retireDevice(&e); err != nil {
		return fmt.Errorf("enrol node %s: %w", e.Node, err)
	}
	r.mu.Lock()
	n := r.nodes[e.Node]
	if n != nil && n.removed {
		r.mu.Unlock()
		return fmt.Errorf("enrol node %s: it is being removed, try again: %w", e.Node, ErrInvalid)
	}
	r.admit(&e, now)
	r.mu.Unlock()
	return r.persist(e.Node)
}

// retireDevice drops from disk what the device said that had e's id before, if its key was another: sessions and event
// numbers of the new one begin at 1.
func (r *Registry) retireDevice(e *Enrolment) error {
	r.mu.RLock()
	loaded, n := r.loaded, r.nodes[e.Node]
	other := n != nil && n.row.KeySHA256 != e.KeySHA256
	r.mu.RUnlock()
	switch {
	case !loaded:
		return ErrNotLoaded
	case !other:
		return nil
	}
	return r.group.Do(func(tx *bbolt.Tx) error { return erase(tx, e.Node, false) }, nil)
}

// admit puts e in memory. Caller holds mu.
func (r *Registry) admit(e *Enrolment, now time.Time) {
	n := r.nodes[e.Node]
	switch {
	case n == nil:
		n = &node{row: row{ID: e.Node, Enrolled: api.At(now)}, facts: Facts{Enrolled: now}}
		r.nodes[e.Node] = n
		r.tell(n, api.EventRecord{Kind: "node.enrolled", Message: "a device was admitted as this node"})
	case n.row.KeySHA256 != e.KeySHA256:
		r.tell(n, api.EventRecord{Kind: "node.rejoined", Message: "a device with another key was admitted as this node"})
		n.facts = Facts{Enrolled: now, Elsewhere: n.facts.Elsewhere, LinkKnown: n.facts.LinkKnown, Links: n.facts.Links, LinkAt: n.facts.LinkAt}
		n.row.Enrolled, n.row.Standing = api.At(now), Standing{}
		n.birth, n.reported, n.born = nil, nil, false
	}
	n.row.KeySHA256, n.row.Certificate, n.row.TokenLabels = e.KeySHA256, e.Certificate, maps.Clone(e.Labels)
	n.relabel()
	n.touch()
	before := r.nodesIn.Version()
	r.decide(n, now)
	if r.nodesIn.Version() == before {
		r.publish(n)
	}
}

// Renewed notes the new certificate of a node whose key stays.
func (r *Registry) Renewed(id string, c api.Certificate) error {
	return r.update(id, func(n *node, _ time.Time) error {
		n.row.Certificate = c
		n.touch()
		r.publish(n)
		return nil
	})
}

// Remove forgets a node for good and leaves a tombstone. It is on disk when Remove returns nil.
func (r *Registry) Remove(id, by string) error {
	now := r.cfg.Now()
	r.mu.Lock()
	n, err := r.find(id)
	if err != nil {
		r.mu.Unlock()
		return err
	}
	n.removed = true // from here on nothing writes it back
	stone := Tombstone{Node: id, KeySHA256: n.row.KeySHA256, At: api.At(now), By: by}
	r.mu.Unlock()

	event := api.EventRecord{Node: id, At: api.At(now), Class: api.ClassEvent, Kind: "node.removed",
		Message: "removed by " + by}
	var log appended
	err = r.group.Do(func(tx *bbolt.Tx) (err error) {
		floor, err := generation(tx, id)
		if err != nil {
			return err
		}
		stone.Generation = floor
		if err := errors.Join(erase(tx, id, true), writeJSON(tx, bucketTombstone, id, &stone)); err != nil {
			return err
		}
		log, err = r.events.add(tx, []api.EventRecord{event})
		return err
	}, func() {
		r.mu.Lock()
		delete(r.nodes, id)
		r.plan.Remove(id)
		r.publish(n)
		r.mu.Unlock()
		r.events.settle(&log)
	})
	if err != nil {
		r.mu.Lock()
		n.removed = false
		r.mu.Unlock()
		return fmt.Errorf("remove node %s: %w", id, err)
	}
	return nil
}

// Tombstone returns what is remembered of a removed node.
func (r *Registry) Tombstone(id string) (stone Tombstone, found bool, err error) {
	if !r.isLoaded() {
		return Tombstone{}, false, ErrNotLoaded
	}
	err = r.cfg.DB.View(func(tx *bbolt.Tx) error {
		found = tx.Bucket([]byte(bucketTombstone)).Get([]byte(id)) != nil
		return readJSON(tx, bucketTombstone, []byte(id), &stone)
	})
	return stone, found, err
}

// generation is the highest desired generation that id ever had.
func generation(tx *bbolt.Tx, id string) (uint64, error) {
	var desired api.Revision
	var stone Tombstone
	err := errors.Join(readJSON(tx, bucketDesired, []byte(id), &desired), readJSON(tx, bucketTombstone, []byte(id), &stone))
	return max(desired.Generation, stone.Generation), err
}

// sweepTombstones drops the oldest beyond the bounds.
func sweepTombstones(tx *bbolt.Tx, now time.Time) error {
	b := tx.Bucket([]byte(bucketTombstone))
	var all []Tombstone
	err := b.ForEach(func(id, raw []byte) error {
		var stone Tombstone
		if err := json.Unmarshal(raw, &stone); err != nil {
			return fmt.Errorf("read tombstone of %s: %w", id, err)
		}
		all = append(all, stone)
		return nil
	})
	if err != nil {
		return err
	}
	sortByAge(all)
	excess := len(all) - maxTombstones
	for i, stone := range all {
		if i >= excess && !stone.At.Time().Before(now.Add(-keepTombstone)) {
			break
		}
		if err := b.Delete([]byte(stone.Node)); err != nil {
			return err
		}
	}
	return nil
}
