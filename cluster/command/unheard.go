package command

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// Unheard returns the nodes that were sent a command and have not told its end, by name: those with an open one, and those
// with one that was closed here after since without their word. Their statuses have to be listened to, whoever acts for
// the nodes by now.
func (j *Journal) Unheard(since time.Time) ([]string, error) {
	if !j.isLoaded() {
		return nil, ErrNotLoaded
	}
	nodes := map[string]struct{}{}
	j.mu.Lock()
	for node, of := range j.byNode {
		for _, o := range of {
			if o.Phase != api.PhaseQueued {
				nodes[node] = struct{}{}
			}
		}
	}
	j.mu.Unlock()
	err := j.cfg.DB.View(func(tx *bbolt.Tx) error {
		done, final := tx.Bucket([]byte(bucketDone)).Cursor(), tx.Bucket([]byte(bucketFinal))
		for k, node := done.Last(); k != nil; k, node = done.Prev() {
			closed, id := readDone(k)
			if closed.Time().Before(since) {
				return nil
			}
			if _, known := nodes[string(node)]; known {
				continue
			}
			var e entry
			if err := json.Unmarshal(final.Get([]byte(id)), &e); err != nil {
				return fmt.Errorf("read command %s: %w", id, err)
			}
			if e.unheard() {
				nodes[e.Node] = struct{}{}
			}
		}
		return nil
	})
	out := make([]string, 0, len(nodes))
	for node := range nodes {
		out = append(out, node)
	}
	slices.Sort(out)
	return out, err
}

// unheard reports whether e was closed without the node's word although the node was sent it.
func (e *entry) unheard() bool {
	if e.Late.Final() || e.Status != nil && e.Status.Phase.Final() {
		return false
	}
	return slices.ContainsFunc(e.History, func(t api.Transition) bool { return t.Phase == api.PhaseDelivered })
}
