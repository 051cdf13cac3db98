package telemetry

import (
	"context"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/skerry-edge/skerry/api"
)

// The TSDB keeps one value of a series for an instant. It says that another is there only of a series' newest sample: a late
// one that meets another it drops without a word, or stores beside it, so that one of the two is never read. A node whose clock
// was set back makes such rows. Whoever sends a row twice makes late rows too, of the same values, and that is by far the
// more common case; so it is enough to look up a few samples of a late row, of those that do not always have the same value.

// tellers is how many samples of a late row are looked up.
const tellers = 2

// taken reports whether another row of the same node has the instant t of a late row.
func (w *writer) taken(ctx context.Context, r *request, row *api.Row, t int64) bool {
	asked := 0
	for j, v := range row.Values {
		e := r.entries[j]
		if math.IsNaN(v) || e == nil || e.opened == w.opened && (t >= e.newest || v == e.value) {
			continue
		}
		if asked++; asked > tellers {
			break
		}
		if stored, there := w.storedAt(ctx, e.lset, t); there {
			return stored != v // the same value: the row itself, once more
		}
	}
	return false
}

// storedAt is the value of a series at an instant. What cannot be read is not there.
func (w *writer) storedAt(ctx context.Context, lset labels.Labels, t int64) (v float64, there bool) {
	q, err := w.db.Querier(t, t)
	if err != nil {
		return 0, false
	}
	defer func() { _ = q.Close() }() // it was read from alone
	var match []*labels.Matcher
	lset.Range(func(l labels.Label) {
		match = append(match, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
	})
	set := q.Select(ctx, false, nil, match...)
	for set.Next() {
		if s := set.At(); labels.Equal(s.Labels(), lset) { // another may have more labels
			if it := s.Iterator(nil); it.Seek(t) == chunkenc.ValFloat {
				at, value := it.At()
				return value, at == t
			}
		}
	}
	return 0, false
}

// lost counts a sample whose instant another row has, and reports whether it must not be stored.
func (w *writer) lost(ctx context.Context, r *request, e *entry, t int64, v float64) bool {
	stored, there := w.storedAt(ctx, e.lset, t)
	if there && stored != v {
		r.count[rejectDuplicate]++
	}
	return there
}
