package command

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/feed"
)

// The bounds of List.
const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// Filter chooses records. Zero fields choose all.
type Filter struct {
	Node  string
	Phase api.Phase
	Open  bool   // only those that have not ended
	Limit int    // 0: 100; at most 10,000
	After string // what Page returned: goes on behind that page
}

// Get returns the record of id. Records are shared: nobody may change what one refers to.
func (j *Journal) Get(id string) (rec api.CommandRecord, found bool, err error) {
	e, found, err := j.lookup(id)
	return e.CommandRecord, found, err
}

// List returns the records that f chooses: open ones first, the newest first, then final ones, the last to end first.
func (j *Journal) List(f Filter) ([]api.CommandRecord, error) {
	records, _, err := j.Page(f)
	return records, err
}

// Page is List, and next goes on behind the last record when there may be more. A command that ends while somebody goes
// from page to page is not missed, but may come a second time, with its end.
func (j *Journal) Page(f Filter) (records []api.CommandRecord, next string, err error) {
	if f.Limit <= 0 {
		f.Limit = defaultLimit
	}
	f.Limit = min(f.Limit, maxLimit)
	if !j.isLoaded() {
		return nil, "", ErrNotLoaded
	}
	if f.Phase != "" && !f.Phase.Valid() {
		return nil, "", fmt.Errorf("%w: phase %q", ErrInvalid, f.Phase)
	}
	at, err := readPlace(f.After)
	if err != nil {
		return nil, "", err
	}
	if at.done == nil {
		records, at.seq = j.listOpen(&f, at.seq)
		if len(records) == f.Limit {
			return records, at.String(), nil
		}
	}
	if f.Open || f.Phase != "" && !f.Phase.Final() {
		return records, "", nil
	}
	seen := make(map[string]bool, len(records))
	for i := range records {
		seen[records[i].ID] = true // it may have ended since
	}
	err = j.cfg.DB.View(func(tx *bbolt.Tx) error {
		done, final := tx.Bucket([]byte(bucketDone)).Cursor(), tx.Bucket([]byte(bucketFinal))
		for k, node := before(done, at.done); k != nil && len(records) < f.Limit; k, node = done.Prev() {
			_, id := readDone(k)
			if f.Node != "" && f.Node != string(node) || seen[id] {
				continue
			}
			var e entry
			if err := json.Unmarshal(final.Get([]byte(id)), &e); err != nil {
				return fmt.Errorf("read command %s: %w", id, err)
			}
			if f.Phase == "" || f.Phase == e.Phase {
				records, at.done = append(records, e.CommandRecord), bytes.Clone(k)
			}
		}
		return nil
	})
	if err == nil && len(records) == f.Limit {
		next = at.String()
	}
	return records, next, err
}

// before moves to the last key below k; nil is above all.
func before(c *bbolt.Cursor, k []byte) (key, value []byte) {
	if k == nil {
		return c.Last()
	}
	if found, _ := c.Seek(k); found == nil {
		return c.Last()
	}
	return c.Prev()
}

// place is where a page ended: behind an open command, by its number, or behind a final one, by its key in command.done.
type place struct {
	seq  uint64
	done []byte
}

func (p place) String() string {
	if p.done != nil {
		return "d" + hex.EncodeToString(p.done)
	}
	return "o" + strconv.FormatUint(p.seq, 10)
}

func readPlace(text string) (p place, err error) {
	switch {
	case text == "":
		return place{seq: math.MaxUint64}, nil
	case text[0] == 'd':
		p.done, err = hex.DecodeString(text[1:])
	case text[0] == 'o':
		p.seq, err = strconv.ParseUint(text[1:], 10, 64)
	default:
		err = errors.New("no page ends there")
	}
	if err != nil || text[0] == 'd' && len(p.done) <= 8 {
		return p, fmt.Errorf("%w: continue %.40q: wanted what the page before said", ErrInvalid, text)
	}
	return p, nil
}

// listOpen lists the open commands that f chooses with a number below the given one, and returns the last one's.
func (j *Journal) listOpen(f *Filter, below uint64) ([]api.CommandRecord, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	of := j.open
	if f.Node != "" {
		of = j.byNode[f.Node]
	}
	chosen := make([]*openCommand, 0, len(of))
	for _, o := range of {
		if (f.Phase == "" || f.Phase == o.Phase) && o.Seq < below {
			chosen = append(chosen, o)
		}
	}
	slices.SortFunc(chosen, func(a, b *openCommand) int { return cmp.Compare(b.Seq, a.Seq) })
	records := make([]api.CommandRecord, 0, min(len(chosen), f.Limit))
	for _, o := range chosen[:min(len(chosen), f.Limit)] {
		records, below = append(records, o.CommandRecord), o.Seq
	}
	return records, below
}

// Watch tells of every change of a record from now on, after it is on disk.
func (j *Journal) Watch(ctx context.Context) *feed.Watch[api.CommandRecord] { return j.feed.Watch(ctx) }
