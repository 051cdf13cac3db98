package command

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

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
	Open  bool // only those that have not ended
	Limit int  // 0: 100; at most 10,000
}

// Get returns the record of id. Records are shared: nobody may change what one refers to.
func (j *Journal) Get(id string) (rec api.CommandRecord, found bool, err error) {
	e, found, err := j.lookup(id)
	return e.CommandRecord, found, err
}

// List returns the records that f chooses: open ones first, the newest first, then final ones, the last to end first.
func (j *Journal) List(f Filter) ([]api.CommandRecord, error) {
	if f.Limit <= 0 {
		f.Limit = defaultLimit
	}
	f.Limit = min(f.Limit, maxLimit)
	if !j.isLoaded() {
		return nil, ErrNotLoaded
	}
	if f.Phase != "" && !f.Phase.Valid() {
		return nil, fmt.Errorf("%w: phase %q", ErrInvalid, f.Phase)
	}
	records := j.listOpen(&f)
	if f.Open || len(records) == f.Limit || f.Phase != "" && !f.Phase.Final() {
		return records, nil
	}
	seen := make(map[string]bool, len(records))
	for i := range records {
		seen[records[i].ID] = true // it may have ended since
	}
	err := j.cfg.DB.View(func(tx *bbolt.Tx) error {
		done, final := tx.Bucket([]byte(bucketDone)).Cursor(), tx.Bucket([]byte(bucketFinal))
		for k, node := done.Last(); k != nil && len(records) < f.Limit; k, node = done.Prev() {
			_, id := readDone(k)
			if f.Node != "" && f.Node != string(node) || seen[id] {
				continue
			}
			var e entry
			if err := json.Unmarshal(final.Get([]byte(id)), &e); err != nil {
				return fmt.Errorf("read command %s: %w", id, err)
			}
			if f.Phase == "" || f.Phase == e.Phase {
				records = append(records, e.CommandRecord)
			}
		}
		return nil
	})
	return records, err
}

func (j *Journal) listOpen(f *Filter) []api.CommandRecord {
	j.mu.Lock()
	defer j.mu.Unlock()
	of := j.open
	if f.Node != "" {
		of = j.byNode[f.Node]
	}
	chosen := make([]*openCommand, 0, len(of))
	for _, o := range of {
		if f.Phase == "" || f.Phase == o.Phase {
			chosen = append(chosen, o)
		}
	}
	slices.SortFunc(chosen, func(a, b *openCommand) int {
		if a.Seq > b.Seq {
			return -1
		}
		return 1
	})
	records := make([]api.CommandRecord, 0, min(len(chosen), f.Limit))
	for _, o := range chosen[:min(len(chosen), f.Limit)] {
		records = append(records, o.CommandRecord)
	}
	return records
}

// Watch tells of every change of a record from now on, after it is on disk.
func (j *Journal) Watch(ctx context.Context) *feed.Watch[api.CommandRecord] { return j.feed.Watch(ctx) }
