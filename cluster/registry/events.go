package registry

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/commit"
	"github.com/skerry-edge/skerry/cluster/feed"
)

// The buckets of the log. Keys of the first are ids, big endian; its values begin with the time of storage (8 bytes,
// milliseconds) and the node (a length byte, then its id), so that most of a scan decodes no JSON. The second holds for
// each node up to where its own numbered events are stored.
const (
	bucketEvent = "event.log"
	bucketMark  = "event.mark"
)

// EventLog is the bounded record of what happened, in the order of storage. Safe for concurrent use.
type EventLog struct {
	db    *bbolt.DB
	group *commit.Group
	now   func() time.Time
	keep  int
	age   time.Duration
	feed  *feed.Feed[api.EventRecord]

	mu      sync.Mutex
	stored  int
	dropped uint64
}

func newEventLog(cfg *Config, group *commit.Group) *EventLog {
	return &EventLog{db: cfg.DB, group: group, now: cfg.Now, keep: cfg.KeepEvents, age: cfg.KeepFor,
		feed: feed.New[api.EventRecord](cfg.WatchQueue)}
}

// prepare creates the buckets and counts.
func (l *EventLog) prepare(tx *bbolt.Tx) error {
	for _, name := range []string{bucketEvent, bucketMark} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	stored := 0
	cursor := tx.Bucket([]byte(bucketEvent)).Cursor()
	for k, _ := cursor.First(); k != nil; k, _ = cursor.Next() {
		stored++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored = stored
	return nil
}

// appended is what a transaction did to the log.
type appended struct {
	records []api.EventRecord
	dropped int
}

// perAppend is how many old events one transaction may drop beyond those it adds: a shrunk bound is reached over time.
const perAppend = 200

// add writes records within tx, numbers them, and drops what is beyond the bounds.
func (l *EventLog) add(tx *bbolt.Tx, records []api.EventRecord) (appended, error) {
	a := appended{}
	if len(records) == 0 {
		return a, nil
	}
	b := tx.Bucket([]byte(bucketEvent))
	now := l.now()
	for _, e := range records {
		id, err := b.NextSequence()
		if err != nil {
			return a, err
		}
		e.ID = id
		raw, err := encodeEvent(&e, now)
		if err != nil {
			return a, err
		}
		if err := b.Put(binary.BigEndian.AppendUint64(nil, id), raw); err != nil {
			return a, err
		}
		a.records = append(a.records, e)
	}
	var err error
	a.dropped, err = l.trim(b, now, len(records)+perAppend)
	return a, err
}

// trim drops up to limit of the oldest events beyond the bounds. Ids have no gaps but at the front, so the distance of
// the ends is the number.
func (l *EventLog) trim(b *bbolt.Bucket, now time.Time, limit int) (dropped int, err error) {
	oldest := now.Add(-l.age).UnixMilli()
	last := b.Sequence()
	cursor := b.Cursor()
	var keys [][]byte
	for k, v := cursor.First(); k != nil && len(keys) < limit; k, v = cursor.Next() {
		count := last - binary.BigEndian.Uint64(k) + 1
		if count <= uint64(l.keep) && int64(binary.BigEndian.Uint64(v)) >= oldest {
			break
		}
		keys = append(keys, k)
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// settle shows what is on disk. It runs in the order of the commits.
func (l *EventLog) settle(a *appended) {
	l.mu.Lock()
	l.stored += len(a.records) - a.dropped
	l.dropped += uint64(a.dropped)
	l.mu.Unlock()
	for i := range a.records {
		l.feed.Publish(a.records[i], false)
	}
}

// Append stores events of the cluster agent itself, or such as carry no number, and returns once they are on disk.
func (l *EventLog) Append(records ...api.EventRecord) error {
	if len(records) == 0 {
		return nil
	}
	var done appended
	err := l.group.Do(func(tx *bbolt.Tx) (err error) {
		if tx.Bucket([]byte(bucketEvent)) == nil {
			return ErrNotLoaded
		}
		done, err = l.add(tx, records)
		return err
	}, func() { l.settle(&done) })
	if err != nil {
		return fmt.Errorf("store %d events: %w", len(records), err)
	}
	return nil
}

// maxMarkEpochs is how many sessions of one node may have unacknowledged events.
const maxMarkEpochs = 64

// marks is up to where the events of each session of a node are stored.
type marks map[uint64]uint64

// AppendNode stores an event that a node sent, once: what comes again is not stored again. mark is up to where the
// events of its epoch are now on disk, for api.Ack.Events. An event whose predecessor (Prev) is not there is not stored
// and the mark stays: the node sends both again, in order.
func (l *EventLog) AppendNode(node string, e *api.Event) (mark uint64, err error) {
	if err := e.Validate(); err != nil {
		return 0, fmt.Errorf("event of node %.63s: %w: %w", node, ErrInvalid, err)
	}
	record := api.EventRecord{Node: node, At: e.At, Class: e.Class, Kind: e.Kind, Object: e.Object,
		Message: e.Message, Data: e.Data}
	var done appended
	err = l.group.Do(func(tx *bbolt.Tx) error {
		done = appended{}
		if tx.Bucket([]byte(bucketMark)) == nil {
			return ErrNotLoaded
		}
		m := marks{}
		if err := readJSON(tx, bucketMark, []byte(node), &m); err != nil {
			return err
		}
		if mark = m[e.Epoch]; e.Seq <= mark || e.Prev > mark {
			return nil
		}
		m.set(e.Epoch, e.Seq)
		mark = e.Seq
		if err := writeJSON(tx, bucketMark, node, m); err != nil {
			return err
		}
		done, err = l.add(tx, []api.EventRecord{record})
		return err
	}, func() { l.settle(&done) })
	if err != nil {
		return 0, fmt.Errorf("store event of node %.63s: %w", node, err)
	}
	return mark, nil
}

// set notes seq for epoch and forgets the oldest sessions beyond the bound.
func (m marks) set(epoch, seq uint64) {
	m[epoch] = seq
	for len(m) > maxMarkEpochs {
		oldest := epoch
		for e := range m {
			oldest = min(oldest, e)
		}
		if oldest == epoch { // older than all that are remembered: its own
			return
		}
		delete(m, oldest)
	}
}

// Watch tells of every event from now on, after it is on disk.
func (l *EventLog) Watch(ctx context.Context) *feed.Watch[api.EventRecord] { return l.feed.Watch(ctx) }

func encodeEvent(e *api.EventRecord, stored time.Time) ([]byte, error) {
	if len(e.Node) > api.MaxIDLength {
		return nil, fmt.Errorf("node %.20q…: %w", e.Node, ErrInvalid)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 9+len(e.Node)+len(raw)), uint64(stored.UnixMilli()))
	out = append(out, byte(len(e.Node)))
	return append(append(out, e.Node...), raw...), nil
}

var errShortEvent = errors.New("stored event is cut short")

// splitEvent is the inverse of encodeEvent; body is the JSON.
func splitEvent(raw []byte) (stored api.Millis, node string, body []byte, err error) {
	if len(raw) < 9 || len(raw) < 9+int(raw[8]) {
		return 0, "", nil, errShortEvent
	}
	n := 9 + int(raw[8])
	return api.Millis(binary.BigEndian.Uint64(raw)), string(raw[9:n]), raw[n:], nil
}
