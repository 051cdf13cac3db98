package access

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// The log is three: what was done, what people were refused or failed to do, and what strangers and devices were refused.
// Anybody can be refused as often as he likes, and that must not push out what counts more. The keys of each are numbers of
// its own, big endian and without gaps; the ids of the entries come from one sequence and so tell the order of all.
const (
	bucketAudit   = "access.audit"
	bucketRefused = "access.audit.refused"
	bucketStrange = "access.audit.strange"
	bucketIDs     = "access.audit.ids" // only its sequence counts
	maxList       = 10_000
	// trimStep bounds how many old entries one append deletes, so that a smaller bound after a restart does not make
	// one append long. It is more than one, so the log does reach its bound.
	trimStep = 64
)

// Bounds limit the audit log; the oldest entries go first. Zero means 100,000 entries of what was done, 20,000 of what
// people were refused, 10,000 of what strangers and devices were, and no limit of age.
type Bounds struct {
	Entries int
	Refused int
	Strange int
	Age     time.Duration
}

// Audit is the log of writes. Safe for concurrent use.
type Audit struct {
	db     *bbolt.DB
	bounds Bounds
	now    func() time.Time
}

// OpenAudit creates what is missing of the store. now nil means time.Now.
func OpenAudit(db *bbolt.DB, bounds Bounds, now func() time.Time) (*Audit, error) {
	if bounds.Entries == 0 {
		bounds.Entries = 100_000
	}
	if bounds.Refused == 0 {
		bounds.Refused = 20_000
	}
	if bounds.Strange == 0 {
		bounds.Strange = 10_000
	}
	if db == nil || bounds.Entries < 0 || bounds.Refused < 0 || bounds.Strange < 0 || bounds.Age < 0 {
		return nil, errors.New("open audit log: wanted a store and no negative bound")
	}
	if now == nil {
		now = time.Now
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{bucketAudit, bucketRefused, bucketStrange, bucketIDs} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		ids, done := tx.Bucket([]byte(bucketIDs)), tx.Bucket([]byte(bucketAudit)).Sequence()
		if ids.Sequence() < done { // a log of before there were three
			return ids.SetSequence(done)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return &Audit{db, bounds, now}, nil
}

// ResultOK is the result of an entry whose write was done.
const ResultOK = "ok"

// Append stores an entry down to the disk and returns it with its number and time.
func (a *Audit) Append(e api.AuditEntry) (api.AuditEntry, error) {
	err := a.db.Update(func(tx *bbolt.Tx) (err error) {
		e, err = a.AppendTx(tx, e)
		return err
	})
	if err != nil {
		return api.AuditEntry{}, fmt.Errorf("append to audit log: %w", err)
	}
	return e, nil
}

// AppendTx is Append within a transaction of the caller: the entry and what it tells of are stored together or not at
// all.
func (a *Audit) AppendTx(tx *bbolt.Tx, e api.AuditEntry) (api.AuditEntry, error) {
	name, bound := a.place(&e)
	b := tx.Bucket([]byte(name))
	b.FillPercent = 1 // its keys come in order: a page that was split is never written to again
	number, err := b.NextSequence()
	if err != nil {
		return e, err
	}
	if e.ID, err = tx.Bucket([]byte(bucketIDs)).NextSequence(); err != nil {
		return e, err
	}
	e.At = api.At(a.now())
	for _, f := range []struct {
		field *string
		limit int
	}{{&e.By, api.MaxLabelBytes}, {&e.Via, api.MaxLabelBytes}, {&e.From, api.MaxLabelBytes},
		{&e.Action, api.MaxLabelBytes}, {&e.Object, api.MaxReasonBytes}, {&e.Result, api.MaxReasonBytes}} {
		*f.field = clip(*f.field, f.limit)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return e, err
	}
	if err := b.Put(key(number), raw); err != nil {
		return e, err
	}
	return e, a.trim(b, number, bound)
}

// place is which of the logs an entry belongs to.
func (a *Audit) place(e *api.AuditEntry) (bucket string, bound int) {
	switch {
	case e.Result == "" || e.Result == ResultOK:
		return bucketAudit, a.bounds.Entries
	case e.Role == "":
		return bucketStrange, a.bounds.Strange
	}
	return bucketRefused, a.bounds.Refused
}

// trim deletes from the old end. Numbers have no gaps, as only this end is ever cut, so the count is a difference.
func (a *Audit) trim(b *bbolt.Bucket, newest uint64, bound int) error {
	c := b.Cursor()
	k, raw := c.First()
	for range trimStep {
		if k == nil {
			return nil
		}
		number := binary.BigEndian.Uint64(k)
		if number == newest { // the entry just written stays, whatever the bounds
			return nil
		}
		if newest-number < uint64(bound) && !a.tooOld(raw) {
			return nil
		}
		if err := c.Delete(); err != nil {
			return err
		}
		k, raw = c.First()
	}
	return nil
}

func (a *Audit) tooOld(raw []byte) bool {
	if a.bounds.Age == 0 {
		return false
	}
	var e api.AuditEntry
	return json.Unmarshal(raw, &e) == nil && a.now().Sub(e.At.Time()) > a.bounds.Age
}

func key(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// clip cuts s to at most limit bytes of valid UTF-8.
func clip(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}
