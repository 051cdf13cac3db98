package registry

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// The buckets, keyed by node id except the last.
const (
	bucketNode      = "registry.node"
	bucketBirth     = "registry.birth"
	bucketReported  = "registry.reported"
	bucketDesired   = "registry.desired"
	bucketSeen      = "registry.seen" // big endian milliseconds
	bucketTombstone = "registry.tombstone"
	bucketMeta      = "registry.meta"
)

var keyAttended = []byte("attended") // nanoseconds, big endian

// readAll creates the buckets and reads every node, and for how long the cluster agent has attended.
func readAll(tx *bbolt.Tx) (nodes []*node, attended time.Duration, err error) {
	buckets := []string{bucketNode, bucketBirth, bucketReported, bucketDesired, bucketSeen, bucketTombstone, bucketMeta}
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return nil, 0, fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	if raw := tx.Bucket([]byte(bucketMeta)).Get(keyAttended); len(raw) == 8 {
		attended = time.Duration(binary.BigEndian.Uint64(raw))
	}
	err = tx.Bucket([]byte(bucketNode)).ForEach(func(id, raw []byte) error {
		n, err := readNode(tx, id, raw)
		nodes = append(nodes, n)
		return err
	})
	return nodes, attended, err
}

func readNode(tx *bbolt.Tx, id, raw []byte) (*node, error) {
	n := &node{}
	var desired struct {
		api.Revision
		Agent *api.AgentWant `json:"agent"`
	}
	err := errors.Join(
		json.Unmarshal(raw, &n.row),
		readJSON(tx, bucketBirth, id, &n.birth),
		readJSON(tx, bucketReported, id, &n.reported),
		readJSON(tx, bucketDesired, id, &desired),
	)
	if err != nil {
		return nil, fmt.Errorf("read node %s: %w", id, err)
	}
	if seen := tx.Bucket([]byte(bucketSeen)).Get(id); len(seen) == 8 {
		n.seenFlushed = int64(binary.BigEndian.Uint64(seen))
		n.seen.Store(n.seenFlushed)
	}
	n.desired, n.want = desired.Revision, desired.Agent
	n.facts = Facts{Enrolled: n.row.Enrolled.Time(), Epoch: n.row.Epoch, State: n.row.State, StateAt: n.row.StateAt.Time()}
	n.declared()
	n.relabel()
	return n, nil
}

// declared copies what the birth declares into the facts.
func (n *node) declared() {
	if n.birth != nil {
		n.facts.Autonomy = time.Duration(n.birth.AutonomyMillis) * time.Millisecond
		n.facts.Interval = time.Duration(n.birth.IntervalMillis) * time.Millisecond
	}
}

// readJSON leaves v alone when there is nothing under id.
func readJSON(tx *bbolt.Tx, bucket string, id []byte, v any) error {
	raw := tx.Bucket([]byte(bucket)).Get(id)
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, v)
}

func writeJSON(tx *bbolt.Tx, bucket, id string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s of node %s: %w", bucket, id, err)
	}
	return tx.Bucket([]byte(bucket)).Put([]byte(id), raw)
}

// snapshot is what a write takes from a node.
type snapshot struct {
	id       string
	version  uint64
	row      row
	birth    *api.Birth    // nil: not changed since it was written
	reported *api.Reported // nil: not changed since it was written
}

// persist writes what changed of ids, and the events that wait with it, in one transaction shared with others.
func (r *Registry) persist(ids ...string) error {
	events := r.takeUntold(ids)
	var written []snapshot
	var log appended
	err := r.group.Do(func(tx *bbolt.Tx) (err error) {
		written = r.changed(ids)
		for i := range written {
			if err := written[i].write(tx); err != nil {
				return err
			}
		}
		log, err = r.events.add(tx, events)
		return err
	}, func() {
		r.settle(written)
		r.events.settle(&log)
	})
	if err != nil {
		r.untake(events)
		return fmt.Errorf("store node %.63s: %w", ids[0], err)
	}
	return nil
}

func (r *Registry) takeUntold(ids []string) (events []api.EventRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if n := r.nodes[id]; n != nil {
			events = append(events, n.untold...)
			n.untold = nil
		}
	}
	return events
}

// untake puts events back that could not be stored.
func (r *Registry) untake(events []api.EventRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		if n := r.nodes[e.Node]; n != nil && len(n.untold) < maxUntold {
			n.untold = append(n.untold, e)
			n.touch()
		} else {
			r.stats.EventsLost++
		}
	}
}

// changed takes a snapshot of those of ids that are not on disk as they are in memory.
func (r *Registry) changed(ids []string) []snapshot {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []snapshot
	for _, id := range ids {
		n := r.nodes[id]
		if n == nil || n.removed || n.durable >= n.version {
			continue
		}
		s := snapshot{id: id, version: n.version, row: n.row}
		s.row.Epoch, s.row.State, s.row.StateAt = n.facts.Epoch, n.facts.State, api.At(n.facts.StateAt)
		if n.birthAt > n.durable {
			s.birth = n.birth
		}
		if n.reportedAt > n.durable {
			s.reported = n.reported
		}
		all = append(all, s)
	}
	return all
}

func (s *snapshot) write(tx *bbolt.Tx) error {
	if err := writeJSON(tx, bucketNode, s.id, &s.row); err != nil {
		return err
	}
	if s.birth != nil {
		if err := writeJSON(tx, bucketBirth, s.id, s.birth); err != nil {
			return err
		}
	}
	if s.reported != nil {
		return writeJSON(tx, bucketReported, s.id, s.reported)
	}
	return nil
}

// settle notes what is on disk.
func (r *Registry) settle(written []snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range written {
		if n := r.nodes[written[i].id]; n != nil {
			n.durable = max(n.durable, written[i].version)
		}
	}
}

// erase takes id out of the buckets: all that is about the device, and with all set the node itself.
func erase(tx *bbolt.Tx, id string, all bool) error {
	buckets := []string{bucketBirth, bucketReported, bucketSeen, bucketMark}
	if all {
		buckets = append(buckets, bucketNode, bucketDesired)
	}
	var errs []error
	for _, name := range buckets {
		errs = append(errs, tx.Bucket([]byte(name)).Delete([]byte(id)))
	}
	return errors.Join(errs...)
}
