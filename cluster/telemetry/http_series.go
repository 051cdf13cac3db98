package telemetry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// search is what the series and label endpoints ask.
type search struct {
	start, end int64 // milliseconds
	limit      int   // 0: none
	sets       [][]*labels.Matcher
}

func (s *Store) parseSearch(r *http.Request) (q search, e *apiError) {
	var err error
	if q.limit, err = parseLimit(r.Form.Get("limit")); err != nil {
		return q, badParameter("limit", err)
	}
	start, err := timeParam(r.Form, "start", earliest)
	if err != nil {
		return q, badParameter("start", err)
	}
	end, err := timeParam(r.Form, "end", latest)
	if err != nil {
		return q, badParameter("end", err)
	}
	q.start, q.end = timestamp.FromTime(start), timestamp.FromTime(end)
	if q.sets, err = s.parseSelectors(r.Form["match[]"]); err != nil {
		return q, badParameter("match[]", err)
	}
	return q, nil
}

// reading calls use with a querier on what q covers.
func (s *Store) reading(ctx context.Context, q search, use func(context.Context, storage.Querier) *apiError) *apiError {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Query.Timeout)
	defer cancel()
	db, ctx, release, err := s.acquire(ctx)
	if err != nil {
		return classify(err)
	}
	defer release()
	querier, err := db.Querier(q.start, q.end)
	if err != nil {
		return classify(err)
	}
	failed := use(ctx, querier)
	if err := querier.Close(); err != nil && failed == nil {
		return classify(err)
	}
	return failed
}

func (s *Store) serveSeries(r *http.Request, reply reply) *apiError {
	if len(r.Form["match[]"]) == 0 {
		return badData(errors.New("no match[] parameter provided"))
	}
	q, e := s.parseSearch(r)
	if e != nil {
		return e
	}
	return s.reading(r.Context(), q, func(ctx context.Context, querier storage.Querier) *apiError {
		found, notes, err := selectSeries(ctx, querier, q)
		if err != nil {
			return classify(err)
		}
		return write(reply, notes, func(w *jsonWriter) {
			w.raw("[")
			for i, ls := range found {
				w.comma(i)
				w.labels(ls)
			}
			w.raw("]")
		})
	})
}

func selectSeries(ctx context.Context, querier storage.Querier, q search) ([]labels.Labels, annotations.Annotations, error) {
	hints := &storage.SelectHints{Start: q.start, End: q.end, Func: "series"}
	sets := make([]storage.SeriesSet, len(q.sets))
	for i, matchers := range q.sets {
		sets[i] = querier.Select(ctx, len(q.sets) > 1, hints, matchers...)
	}
	set := sets[0]
	if len(sets) > 1 {
		set = storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	}
	found := []labels.Labels{}
	for set.Next() {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if q.limit > 0 && len(found) == q.limit {
			notes := set.Warnings()
			return found, notes.Add(errTruncated), nil
		}
		found = append(found, set.At().Labels())
	}
	return found, set.Warnings(), set.Err()
}

func (s *Store) serveLabelNames(r *http.Request, reply reply) *apiError {
	return s.serveNames(r, reply, func(ctx context.Context, q storage.Querier, m []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(ctx, nil, m...)
	})
}

func (s *Store) serveLabelValues(r *http.Request, reply reply) *apiError {
	name := r.PathValue("name")
	if strings.HasPrefix(name, "U__") {
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return badData(fmt.Errorf("invalid label name: %q", name))
	}
	return s.serveNames(r, reply, func(ctx context.Context, q storage.Querier, m []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, nil, m...)
	})
}

// lister reads label names or values.
type lister func(context.Context, storage.Querier, []*labels.Matcher) ([]string, annotations.Annotations, error)

func (s *Store) serveNames(r *http.Request, reply reply, list lister) *apiError {
	q, e := s.parseSearch(r)
	if e != nil {
		return e
	}
	sets := q.sets
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	return s.reading(r.Context(), q, func(ctx context.Context, querier storage.Querier) *apiError {
		union := map[string]struct{}{}
		var notes annotations.Annotations
		for _, matchers := range sets {
			names, more, err := list(ctx, querier, matchers)
			if err != nil {
				return classify(err)
			}
			notes.Merge(more)
			for _, name := range names {
				union[name] = struct{}{}
			}
		}
		names := slices.Sorted(maps.Keys(union))
		if q.limit > 0 && len(names) > q.limit {
			names = names[:q.limit]
			notes = notes.Add(errTruncated)
		}
		return write(reply, notes, func(w *jsonWriter) { w.strings(names) })
	})
}

// serveMetadata tells the type of the metrics that are stored, by the convention that a name which ends in _total counts.
func (s *Store) serveMetadata(r *http.Request, reply reply) *apiError {
	limit, err := parseLimit(r.Form.Get("limit"))
	if err != nil {
		return badData(errors.New("limit must be a number"))
	}
	q := search{start: timestamp.FromTime(earliest), end: timestamp.FromTime(latest)}
	return s.reading(r.Context(), q, func(ctx context.Context, querier storage.Querier) *apiError {
		names, _, err := querier.LabelValues(ctx, model.MetricNameLabel, nil)
		if err != nil {
			return classify(err)
		}
		if want := r.Form.Get("metric"); want != "" {
			names = slices.DeleteFunc(names, func(n string) bool { return n != want })
		}
		if limit > 0 && len(names) > limit {
			names = names[:limit]
		}
		return write(reply, nil, func(w *jsonWriter) {
			w.raw("{")
			for i, name := range names {
				w.comma(i)
				w.string(name)
				kind := "gauge"
				if strings.HasSuffix(name, "_total") {
					kind = "counter"
				}
				w.raw(`:[{"type":"` + kind + `","help":"","unit":""}]`)
			}
			w.raw("}")
		})
	})
}
