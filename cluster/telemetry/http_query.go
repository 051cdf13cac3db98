package telemetry

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
)

func (s *Store) serveInstant(r *http.Request, reply reply) *apiError {
	at, err := timeParam(r.Form, "time", s.cfg.Now())
	if err != nil {
		return badParameter("time", err)
	}
	return s.serveQuery(r, evaluation{start: at, end: at}, reply)
}

func (s *Store) serveRange(r *http.Request, reply reply) *apiError {
	start, err := parseTime(r.Form.Get("start"))
	if err != nil {
		return badParameter("start", err)
	}
	end, err := parseTime(r.Form.Get("end"))
	if err != nil {
		return badParameter("end", err)
	}
	if end.Before(start) {
		return badParameter("end", errors.New("end timestamp must not be before start time"))
	}
	step, err := parseDuration(r.Form.Get("step"))
	if err != nil {
		return badParameter("step", err)
	}
	if step <= 0 {
		return badParameter("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	}
	if end.Sub(start)/step > maxPointsPerSeries {
		return badData(errors.New("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"))
	}
	return s.serveQuery(r, evaluation{start: start, end: end, step: step}, reply)
}

// serveQuery reads what both kinds of query take and runs e.
func (s *Store) serveQuery(r *http.Request, e evaluation, reply reply) *apiError {
	form := r.Form
	limit, err := parseLimit(form.Get("limit"))
	if err != nil {
		return badParameter("limit", err)
	}
	if text := form.Get("timeout"); text != "" {
		if e.timeout, err = parseDuration(text); err != nil {
			return badParameter("timeout", err)
		}
	}
	if text := form.Get("lookback_delta"); text != "" {
		if e.lookback, err = parseDuration(text); err != nil {
			return badData(fmt.Errorf("error parsing lookback delta duration: %w", err))
		}
	}
	e.expr = form.Get("query")
	err = s.evaluate(r.Context(), e, func(res *promql.Result) error {
		notes := truncate(res, limit)
		return reply(notes, func(w *jsonWriter) { w.result(res.Value) })
	})
	if err != nil {
		return classify(err)
	}
	return nil
}

var errTruncated = errors.New("results truncated due to limit")

// truncate cuts a result to limit series, 0 for all, and returns its annotations.
func truncate(r *promql.Result, limit int) annotations.Annotations {
	switch v := r.Value.(type) {
	case promql.Vector:
		if limit > 0 && len(v) > limit {
			r.Value = v[:limit]
			return r.Warnings.Add(errTruncated)
		}
	case promql.Matrix:
		if limit > 0 && len(v) > limit {
			r.Value = v[:limit]
			return r.Warnings.Add(errTruncated)
		}
	}
	return r.Warnings
}

func (s *Store) serveFormat(r *http.Request, reply reply) *apiError {
	expr, err := s.parser.ParseExpr(r.Form.Get("query"))
	if err != nil {
		return badParameter("query", err)
	}
	return write(reply, nil, func(w *jsonWriter) { w.string(expr.Pretty(0)) })
}

// The bounds of a search for series when none are given, as Prometheus has them.
var (
	earliest = time.Unix(math.MinInt64/1000+62135596801, 0).UTC()
	latest   = time.Unix(math.MaxInt64/1000-62135596801, 999999999).UTC()
)

func timeParam(form url.Values, name string, absent time.Time) (time.Time, error) {
	text := form.Get(name)
	if text == "" {
		return absent, nil
	}
	t, err := parseTime(text)
	if err != nil {
		return t, fmt.Errorf("invalid time value for '%s': %w", name, err)
	}
	return t, nil
}

// parseTime reads seconds since 1970 with decimals, or RFC 3339.
func parseTime(text string) (time.Time, error) {
	if sec, err := strconv.ParseFloat(text, 64); err == nil {
		whole, frac := math.Modf(sec)
		return time.Unix(int64(whole), int64(math.Round(frac*1000)*1e6)).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	switch text {
	case earliest.Format(time.RFC3339Nano):
		return earliest, nil
	case latest.Format(time.RFC3339Nano):
		return latest, nil
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", text)
}

// parseDuration reads seconds with decimals, or Prometheus' 1h30m.
func parseDuration(text string) (time.Duration, error) {
	if sec, err := strconv.ParseFloat(text, 64); err == nil {
		ns := sec * float64(time.Second)
		if math.IsNaN(ns) || ns >= math.MaxInt64 || ns < math.MinInt64 {
			return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", text)
		}
		return time.Duration(ns), nil
	}
	if d, err := model.ParseDuration(text); err == nil {
		return time.Duration(d), nil
	}
	return 0, fmt.Errorf("cannot parse %q to a valid duration", text)
}

func parseLimit(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err == nil && n < 0 {
		err = errors.New("limit must be non-negative")
	}
	return n, err
}
