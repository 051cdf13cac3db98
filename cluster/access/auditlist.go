package access

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// AuditQuery chooses entries. Zero fields choose all.
type AuditQuery struct {
	Since  time.Time // not before then
	Before uint64    // with a lower id
	Limit  int       // 0: 10,000, which is also the most
}

// List returns entries, newest first.
func (a *Audit) List(q AuditQuery) ([]api.AuditEntry, error) {
	if q.Limit <= 0 || q.Limit > maxList {
		q.Limit = maxList
	}
	var out []api.AuditEntry
	err := a.db.View(func(tx *bbolt.Tx) error {
		var logs []*walk
		for _, name := range []string{bucketAudit, bucketRefused, bucketStrange} {
			w, err := walkBack(tx.Bucket([]byte(name)), q.Before)
			if err != nil {
				return err
			}
			logs = append(logs, w)
		}
		for len(out) < q.Limit {
			newest := slices.MaxFunc(logs, func(a, b *walk) int { return cmp.Compare(a.entry.ID, b.entry.ID) })
			if !newest.more { // whose entry has no id, so neither has any other
				return nil
			}
			if newest.entry.At >= api.At(q.Since) { // an earlier one is not the end: the clock may have been set back
				out = append(out, newest.entry)
			}
			if err := newest.read(newest.cursor.Prev()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list audit log: %w", err)
	}
	return out, nil
}

// walk goes through one of the logs, from the newest on.
type walk struct {
	cursor *bbolt.Cursor
	entry  api.AuditEntry
	more   bool // entry is one
}

// walkBack begins at the newest entry whose id is below before; 0 is above all.
func walkBack(b *bbolt.Bucket, before uint64) (*walk, error) {
	w := &walk{cursor: b.Cursor()}
	k, raw := w.cursor.Last()
	if k == nil || before == 0 {
		return w, w.read(k, raw)
	}
	last := binary.BigEndian.Uint64(k)
	k, _ = w.cursor.First()
	first := binary.BigEndian.Uint64(k)
	var err error
	n := sort.Search(int(last-first+1), func(i int) bool { // numbers have no gaps, and ids grow with them
		number := key(first + uint64(i))
		err = errors.Join(err, w.read(number, b.Get(number)))
		return w.entry.ID >= before
	})
	if err != nil || n == 0 {
		return w, errors.Join(err, w.read(nil, nil))
	}
	return w, w.read(w.cursor.Seek(key(first + uint64(n) - 1)))
}

// read takes what a cursor has found; nothing ends the walk.
func (w *walk) read(k, raw []byte) error {
	w.entry, w.more = api.AuditEntry{}, k != nil
	if k == nil {
		return nil
	}
	if err := json.Unmarshal(raw, &w.entry); err != nil {
		return fmt.Errorf("entry %d is damaged: %w", binary.BigEndian.Uint64(k), err)
	}
	return nil
}
