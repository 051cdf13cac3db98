package command

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// ack notes that the other side has stored the final statuses of ids. Others are ignored.
func (j *journal) ack(ids []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range ids {
		if e := j.byID[id]; e != nil && e.phase.Final() && !e.acked {
			e.acked, e.dirty = true, true
		}
	}
}

// flush writes the acks that are not written yet.
func (j *journal) flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.ContainsFunc(j.order, func(e *entry) bool { return e.dirty }) {
		return nil
	}
	if err := j.db.Update(j.writeAcks); err != nil {
		return fmt.Errorf("journal acks: %w", err)
	}
	j.clean()
	return nil
}

// status returns the stored status of id, whole as long as it is not acknowledged; nil when id is not known.
func (j *journal) status(id string) (*api.Status, error) {
	e, ok := j.find(id)
	if !ok {
		return nil, nil
	}
	var out *api.Status
	err := j.db.View(func(tx *bbolt.Tx) error {
		if raw := tx.Bucket(j.bodies).Get(key(e.number)); raw != nil {
			return json.Unmarshal(raw, &out)
		}
		raw := tx.Bucket(j.records).Get(key(e.number))
		if raw == nil { // forgotten since
			return nil
		}
		r, err := decodeRecord(raw)
		if err != nil {
			return err
		}
		out = &r.Status
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read status of %s: %w", id, err)
	}
	return out, nil
}

// owed lists the commands whose final status is not acknowledged, oldest first.
func (j *journal) owed() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, e := range j.order {
		if e.phase.Final() && !e.acked {
			out = append(out, e.id)
		}
	}
	return out
}
