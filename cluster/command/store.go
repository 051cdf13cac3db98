package command

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// The buckets. command.done orders the final records: its keys are the time of the close (8 bytes, big endian
// milliseconds) and the id, its values the node.
const (
	bucketOpen  = "command.open"
	bucketFinal = "command.final"
	bucketDone  = "command.done"
)

// prepare creates the buckets, reads all open entries and counts the final ones.
func prepare(tx *bbolt.Tx) (open []entry, finals int, err error) {
	for _, name := range []string{bucketOpen, bucketFinal, bucketDone} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return nil, 0, fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	err = tx.Bucket([]byte(bucketOpen)).ForEach(func(id, raw []byte) error {
		var e entry
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("read command %s: %w", id, err)
		}
		open = append(open, e)
		return nil
	})
	cursor := tx.Bucket([]byte(bucketDone)).Cursor()
	for k, _ := cursor.First(); k != nil; k, _ = cursor.Next() {
		finals++
	}
	return open, finals, err
}

// load reads the entry of id from either bucket.
func load(tx *bbolt.Tx, id string) (e entry, found bool, err error) {
	raw := tx.Bucket([]byte(bucketOpen)).Get([]byte(id))
	if raw == nil {
		raw = tx.Bucket([]byte(bucketFinal)).Get([]byte(id))
	}
	if raw == nil {
		return entry{}, false, nil
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return entry{}, false, fmt.Errorf("read command %s: %w", id, err)
	}
	return e, true, nil
}

// save writes e where it belongs by its phase. A record that becomes final moves and is indexed in the same transaction.
func save(tx *bbolt.Tx, e *entry) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write command %s: %w", e.ID, err)
	}
	id, open, done := []byte(e.ID), tx.Bucket([]byte(bucketOpen)), tx.Bucket([]byte(bucketDone))
	switch {
	case !e.Final:
		return open.Put(id, raw)
	case e.Passing:
		return open.Delete(id)
	}
	done.FillPercent = 1 // its keys come in order: a page that was split is never written to again
	return errors.Join(
		open.Delete(id),
		tx.Bucket([]byte(bucketFinal)).Put(id, raw),
		done.Put(doneKey(e.Closed, e.ID), []byte(e.Node)),
	)
}

func doneKey(closed api.Millis, id string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(closed)), id...)
}

// readDone is the inverse of doneKey.
func readDone(key []byte) (closed api.Millis, id string) {
	if len(key) < 8 {
		return 0, ""
	}
	return api.Millis(binary.BigEndian.Uint64(key)), string(key[8:])
}

// retirePerTx bounds one transaction of the retention sweep.
const retirePerTx = 1000

// retire drops the oldest final records: those closed before oldest, and as many more as excess. It returns how many it
// dropped; retirePerTx means that there may be more.
func retire(tx *bbolt.Tx, excess int, oldest time.Time) (dropped int, err error) {
	done, final := tx.Bucket([]byte(bucketDone)), tx.Bucket([]byte(bucketFinal))
	var keys [][]byte
	cursor := done.Cursor()
	for k, _ := cursor.First(); k != nil && len(keys) < retirePerTx; k, _ = cursor.Next() {
		if closed, _ := readDone(k); len(keys) >= excess && !closed.Time().Before(oldest) {
			break
		}
		keys = append(keys, k)
	}
	for _, k := range keys {
		_, id := readDone(k)
		if err := errors.Join(final.Delete([]byte(id)), done.Delete(k)); err != nil {
			return 0, fmt.Errorf("drop command %s: %w", id, err)
		}
	}
	return len(keys), nil
}
