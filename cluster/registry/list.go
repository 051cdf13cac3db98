package registry

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/feed"
)

// Nodes returns the nodes whose labels sel matches, by id. What the records refer to is shared: nobody may change it.
func (r *Registry) Nodes(sel Selector) []api.Node {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list(sel)
}

func (r *Registry) list(sel Selector) []api.Node {
	list := make([]api.Node, 0, len(r.nodes))
	for _, n := range r.nodes {
		if !n.removed && sel.Matches(n.labels) {
			list = append(list, r.record(n))
		}
	}
	slices.SortFunc(list, func(a, b api.Node) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Get returns the node id.
func (r *Registry) Get(id string) (api.Node, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, err := r.find(id)
	if err != nil {
		return api.Node{}, false
	}
	return r.record(n), true
}

// Connected reports whether the broker holds a connection of id, where the broker tells: also while one takes over from
// another, when the end of the older one says nothing about the node.
func (r *Registry) Connected(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := r.nodes[id]
	return n != nil && n.facts.Links > 0
}

// Verbs returns what node announced that it can be asked for, nil when it has announced nothing yet, and whether there
// is such a node.
func (r *Registry) Verbs(id string) (verbs []api.Verb, exists bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, err := r.find(id)
	if err != nil {
		return nil, false
	}
	if n.birth == nil {
		return nil, true
	}
	return n.birth.Verbs, true
}

// Watch returns all nodes and a watch of every change after that: nothing is missed and nothing told twice. LastSeen
// alone is no change.
func (r *Registry) Watch(ctx context.Context) ([]api.Node, *feed.Watch[api.Node]) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list(Selector{}), r.nodesIn.Watch(ctx)
}

// SetLabels changes the labels that people gave a node: an empty value takes a label back, and what the token or the
// node itself said then shows again. It is on disk when SetLabels returns nil.
func (r *Registry) SetLabels(id string, changes map[string]string) error {
	return r.update(id, func(n *node, _ time.Time) error {
		labels := maps.Clone(n.row.UserLabels)
		if labels == nil {
			labels = make(map[string]string)
		}
		set := make(map[string]string)
		for k, v := range changes {
			if v == "" {
				delete(labels, k)
			} else {
				labels[k], set[k] = v, v
			}
		}
		if len(labels) > api.MaxLabels {
			return &Refusal{fmt.Errorf("labels: there would be %d; wanted at most %d", len(labels), api.MaxLabels)}
		}
		if _, err := api.GoodLabels("labels", set); err != nil { // only what is new: what is there already can be taken back one by one
			return &Refusal{err}
		}
		if !maps.Equal(labels, n.row.UserLabels) {
			n.row.UserLabels = labels
			n.relabel()
			n.touch()
			r.publish(n)
		}
		return nil
	})
}

func sortByAge(all []Tombstone) {
	slices.SortFunc(all, func(a, b Tombstone) int { return cmp.Compare(a.At, b.At) })
}
