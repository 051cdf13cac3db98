package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/skerry-edge/skerry/api"
)

// Point is a value at an instant.
type Point struct {
	At    api.Millis
	Value float64
}

// Series is a label set with its points in order of time. The metric's name is the label __name__.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Instant evaluates a PromQL expression at one moment. Each series has one point, save for a range selector; a scalar is
// a series without labels.
func (s *Store) Instant(ctx context.Context, expr string, at time.Time) ([]Series, error) {
	var out []Series
	err := s.evaluate(ctx, evaluation{expr: expr, start: at, end: at}, func(r *promql.Result) error {
		var err error
		out, err = toSeries(r)
		return err
	})
	return out, err
}

// Range evaluates a PromQL expression from start to end inclusive, every step.
func (s *Store) Range(ctx context.Context, expr string, start, end time.Time, step time.Duration) ([]Series, error) {
	if step <= 0 || end.Before(start) || end.Sub(start)/step > maxPointsPerSeries {
		return nil, fmt.Errorf("query from %s to %s every %s: wanted at most %d steps forward", start, end, step, maxPointsPerSeries)
	}
	var out []Series
	err := s.evaluate(ctx, evaluation{expr: expr, start: start, end: end, step: step}, func(r *promql.Result) error {
		var err error
		out, err = toSeries(r)
		return err
	})
	return out, err
}

// evaluation is what a query asks.
type evaluation struct {
	expr       string
	start, end time.Time
	step       time.Duration // 0: at start only
	timeout    time.Duration // 0: the engine's
	lookback   time.Duration // 0: the engine's
}

// errQuery marks a query that cannot be evaluated as it is written.
var errQuery = errors.New(`invalid parameter "query"`)

// evaluate runs a query and calls use with its result, which is valid only during the call.
func (s *Store) evaluate(ctx context.Context, e evaluation, use func(*promql.Result) error) error {
	defer func(start time.Time) { s.metrics.querySeconds.Observe(time.Since(start).Seconds()) }(time.Now())
	timeout := s.cfg.Query.Timeout
	if e.timeout > 0 {
		timeout = min(timeout, e.timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return promql.ErrQueryCanceled("query queue")
		}
		return promql.ErrQueryTimeout("query queue")
	}
	db, ctx, release, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	q, err := s.newQuery(ctx, db, e)
	if err != nil {
		return err
	}
	defer q.Close()
	r := q.Exec(ctx)
	if r.Err != nil {
		return r.Err
	}
	return use(r)
}

func (s *Store) newQuery(ctx context.Context, db storage.Queryable, e evaluation) (q promql.Query, err error) {
	opts := promql.NewPrometheusQueryOpts(false, e.lookback, nil)
	if e.step > 0 {
		q, err = s.engine.NewRangeQuery(ctx, db, opts, e.expr, e.start, e.end, e.step)
	} else {
		q, err = s.engine.NewInstantQuery(ctx, db, opts, e.expr, e.start)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errQuery, err)
	}
	return q, nil
}

// toSeries copies a result.
func toSeries(r *promql.Result) ([]Series, error) {
	switch v := r.Value.(type) {
	case promql.Vector:
		out := make([]Series, len(v))
		for i, x := range v {
			out[i] = Series{x.Metric.Map(), []Point{{api.Millis(x.T), x.F}}}
		}
		return out, nil
	case promql.Matrix:
		out := make([]Series, len(v))
		for i, x := range v {
			out[i] = Series{x.Metric.Map(), make([]Point, len(x.Floats))}
			for j, p := range x.Floats {
				out[i].Points[j] = Point{api.Millis(p.T), p.F}
			}
		}
		return out, nil
	case promql.Scalar:
		return []Series{{map[string]string{}, []Point{{api.Millis(v.T), v.V}}}}, nil
	default:
		return nil, fmt.Errorf("query result is a %s; wanted numbers", v.Type())
	}
}

// parseSelectors reads match[] parameters.
func (s *Store) parseSelectors(texts []string) ([][]*labels.Matcher, error) {
	sets, err := s.parser.ParseMetricSelectors(texts)
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		empty := true
		for _, m := range set {
			empty = empty && m.Matches("")
		}
		if empty {
			return nil, errors.New("match[] must contain at least one non-empty matcher")
		}
	}
	return sets, nil
}
