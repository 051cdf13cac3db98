package command

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

const (
	remembered   = 256                // newest commands that are remembered however old they are
	rememberFor  = 7 * 24 * time.Hour // and how long one of them is
	maxJournal   = 4096               // commands; one more is rejected, for nothing unacknowledged is ever forgotten
	maxBodyBytes = 8 << 20            // of outputs and results that wait for their ack; beyond it they are left out
)

var errFull = fmt.Errorf("journal full: %d commands wait for an acknowledgement or their deadline", maxJournal)

// journal is the durable truth about commands, and an index of it in memory. Safe for concurrent use.
//
// An ack is kept in memory and written with whatever is written next: losing one costs a status that is sent once more.
type journal struct {
	db      *bbolt.DB
	records []byte // bucket: number → record
	bodies  []byte // bucket: number → final status, whole

	mu    sync.Mutex
	byID  map[string]*entry
	order []*entry // by number
	bytes int      // of bodies
	epoch uint64   // the newest session that a command was signed for
}

// entry is what the index knows of a command.
type entry struct {
	number   uint64
	id       string
	digest   string
	phase    api.Phase
	at       api.Millis // of the last transition
	deadline api.Millis
	epoch    uint64 // the session it was signed for
	bytes    int
	acked    bool
	dirty    bool // the ack is not written yet
}

func newJournal(db *bbolt.DB, bucket string) *journal {
	return &journal{db: db, byID: map[string]*entry{}, records: []byte(bucket + "-records"), bodies: []byte(bucket + "-statuses")}
}

func key(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// stored is a record with its number.
type stored struct {
	number uint64
	*record
}

// load reads the journal into the index and returns the records that are not final, in order. What cannot be read is
// removed and counted: it can neither be answered nor run.
func (j *journal) load() (open []stored, damaged int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.byID, j.order, j.bytes = map[string]*entry{}, nil, 0
	var bad [][]byte
	if err := j.create(); err != nil {
		return nil, 0, fmt.Errorf("create command journal: %w", err)
	}
	err = j.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(j.records).ForEach(func(k, v []byte) error {
			r, err := decodeRecord(v)
			if err != nil || len(k) != 8 {
				bad = append(bad, slices.Clone(k))
				return nil
			}
			if e := j.byID[r.Command.ID]; e != nil { // the first was written by a commit that was reported as failed
				bad = append(bad, key(e.number))
				j.drop([]*entry{e})
				open = slices.DeleteFunc(open, func(s stored) bool { return s.number == e.number })
			}
			number := binary.BigEndian.Uint64(k)
			j.index(number, r)
			if !r.Status.Phase.Final() {
				open = append(open, stored{number, r})
			}
			return nil
		})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read command journal: %w", err)
	}
	if len(bad) == 0 {
		return open, 0, nil
	}
	err = j.db.Update(func(tx *bbolt.Tx) error {
		for _, k := range bad {
			if err := errors.Join(tx.Bucket(j.records).Delete(k), tx.Bucket(j.bodies).Delete(k)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("mend command journal: %w", err)
	}
	return open, len(bad), nil
}

// create makes the buckets, without a write when they are there: the disk may be full.
func (j *journal) create() error {
	there := false
	err := j.db.View(func(tx *bbolt.Tx) error {
		there = tx.Bucket(j.records) != nil && tx.Bucket(j.bodies) != nil
		return nil
	})
	if err != nil || there {
		return err
	}
	return j.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(j.records)
		if err == nil {
			_, err = tx.CreateBucketIfNotExists(j.bodies)
		}
		return err
	})
}

// index makes the entry of a record that has been written. mu is held.
func (j *journal) index(number uint64, r *record) {
	e := j.byID[r.Command.ID]
	if e == nil {
		e = &entry{number: number, id: r.Command.ID, digest: r.Digest, deadline: r.Command.Deadline, epoch: r.Command.Epoch}
		j.epoch = max(j.epoch, e.epoch)
		j.byID[e.id] = e
		j.order = append(j.order, e)
	}
	j.bytes += r.Bytes - e.bytes
	e.phase, e.at, e.acked, e.bytes = r.Status.Phase, r.Status.At, r.Acked, r.Bytes
}

// find returns what is known of id.
func (j *journal) find(id string) (entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.byID[id]; e != nil {
		return *e, true
	}
	return entry{}, false
}

// keep writes r, and its whole final status where it has one, with fsync. number is 0 for a command that is new; the
// return value is the number it has. now decides what may be forgotten to make room.
func (j *journal) keep(number uint64, r *record, final *api.Status, now time.Time) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var forget []*entry
	if number == 0 {
		forget = j.forgettable(now)
		if len(j.order)-len(forget) >= maxJournal {
			return 0, errFull
		}
	}
	body, err := j.prepare(r, final)
	if err != nil {
		return 0, err
	}
	err = j.db.Update(func(tx *bbolt.Tx) error {
		records, bodies := tx.Bucket(j.records), tx.Bucket(j.bodies)
		if number == 0 {
			var err error
			if number, err = records.NextSequence(); err != nil {
				return err
			}
		}
		if err := j.writeAcks(tx); err != nil {
			return err
		}
		for _, e := range forget {
			if err := errors.Join(records.Delete(key(e.number)), bodies.Delete(key(e.number))); err != nil {
				return err
			}
		}
		raw, err := r.encode()
		if err != nil {
			return err
		}
		if body != nil {
			if err := bodies.Put(key(number), body); err != nil {
				return err
			}
		}
		return records.Put(key(number), raw)
	})
	if err != nil {
		return 0, fmt.Errorf("journal command %s: %w", r.Command.ID, err)
	}
	j.clean()
	j.drop(forget)
	j.index(number, r)
	return number, nil
}

// prepare fills in r what goes with its status and returns what is stored beside it.
func (j *journal) prepare(r *record, final *api.Status) ([]byte, error) {
	if final == nil {
		return nil, nil
	}
	r.Status = slim(*final)
	r.Command.Args = nil
	if final.Output == "" && final.Result == nil {
		return nil, nil
	}
	body, err := json.Marshal(final)
	if err != nil {
		return nil, fmt.Errorf("journal status of %s: %w", r.Command.ID, err)
	}
	if j.bytes+len(body) > maxBodyBytes {
		return nil, nil
	}
	r.Bytes = len(body)
	return body, nil
}

// forgettable lists what need not be remembered any more: acknowledged, neither among the newest nor young, and of no use to
// who kept a copy of it. A copy is refused when it was signed for an older session, and expires when its deadline has
// passed by the cluster agent's time (now), which does not go back within a session. mu is held.
func (j *journal) forgettable(now time.Time) []*entry {
	var out []*entry
	for i, e := range j.order {
		old := now.Sub(e.at.Time()) > rememberFor
		if e.acked && (e.epoch < j.epoch || now.After(e.deadline.Time())) && (old || i < len(j.order)-remembered+1) {
			out = append(out, e)
		}
	}
	return out
}

func (j *journal) drop(gone []*entry) {
	if len(gone) == 0 {
		return
	}
	for _, e := range gone {
		delete(j.byID, e.id)
		j.bytes -= e.bytes
	}
	j.order = slices.DeleteFunc(j.order, func(e *entry) bool { return j.byID[e.id] != e })
}

// writeAcks puts into tx the acks that are not written yet. mu is held.
func (j *journal) writeAcks(tx *bbolt.Tx) error {
	records, bodies := tx.Bucket(j.records), tx.Bucket(j.bodies)
	for _, e := range j.order {
		if !e.dirty {
			continue
		}
		r, err := decodeRecord(records.Get(key(e.number)))
		if err != nil {
			continue // damaged since it was indexed: the next load removes it
		}
		r.Acked, r.Bytes = true, 0
		raw, err := r.encode()
		if err != nil {
			return err
		}
		if err := errors.Join(records.Put(key(e.number), raw), bodies.Delete(key(e.number))); err != nil {
			return err
		}
	}
	return nil
}

// clean notes that the acks have been written. mu is held.
func (j *journal) clean() {
	for _, e := range j.order {
		if e.dirty {
			j.bytes -= e.bytes
			e.dirty, e.bytes = false, 0
		}
	}
}
