package registry

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// The bounds of List.
const (
	defaultEvents = 100
	maxEvents     = 10_000
)

// EventFilter chooses events. Zero fields choose all.
type EventFilter struct {
	Node   string
	Class  api.Class
	Kind   string
	Since  api.Millis // stored then or later
	After  uint64     // with a higher id
	Before uint64     // with a lower id; 0 is above all
	Limit  int        // 0: 100; at most 10,000
}

// List returns the events that f chooses, the newest first.
func (l *EventLog) List(f EventFilter) ([]api.EventRecord, error) {
	if f.Limit <= 0 {
		f.Limit = defaultEvents
	}
	f.Limit = min(f.Limit, maxEvents)
	records := []api.EventRecord{}
	err := l.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketEvent))
		if b == nil {
			return ErrNotLoaded
		}
		cursor := b.Cursor()
		for k, raw := below(cursor, f.Before); k != nil && len(records) < f.Limit; k, raw = cursor.Prev() {
			stored, node, body, err := splitEvent(raw)
			if err != nil {
				return fmt.Errorf("event %d: %w", binary.BigEndian.Uint64(k), err)
			}
			if stored < f.Since || binary.BigEndian.Uint64(k) <= f.After {
				return nil // and so are all before it
			}
			if f.Node != "" && f.Node != node {
				continue
			}
			var e api.EventRecord
			if err := json.Unmarshal(body, &e); err != nil {
				return fmt.Errorf("event %d: %w", binary.BigEndian.Uint64(k), err)
			}
			if (f.Class == "" || f.Class == e.Class) && (f.Kind == "" || f.Kind == e.Kind) {
				records = append(records, e)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return records, nil
}

// below moves to the last event with an id below id; 0 is above all.
func below(c *bbolt.Cursor, id uint64) (k, raw []byte) {
	if id == 0 {
		return c.Last()
	}
	if k, _ = c.Seek(binary.BigEndian.AppendUint64(nil, id)); k == nil {
		return c.Last()
	}
	return c.Prev()
}
