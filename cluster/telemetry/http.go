package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/skerry-edge/skerry/agent"
)

// promVersion is the release whose PromQL this is: Grafana asks, to know what it may use.
const promVersion = "3.16.0"

// apiError is an error as Prometheus' HTTP API classes it.
type apiError struct {
	kind string
	code int
	err  error
}

func badData(err error) *apiError { return &apiError{"bad_data", http.StatusBadRequest, err} }

func badParameter(name string, err error) *apiError {
	return badData(fmt.Errorf("invalid parameter %q: %w", name, err))
}

// statusCanceled is what Prometheus answers to a client that went away (nginx's 499 has no name in net/http).
const statusCanceled = 499

// classify gives an error of the engine or the store its class.
func classify(err error) *apiError {
	switch {
	case isA[promql.ErrQueryTimeout](err), errors.Is(err, context.DeadlineExceeded):
		return &apiError{"timeout", http.StatusServiceUnavailable, err}
	case isA[promql.ErrQueryCanceled](err), errors.Is(err, context.Canceled):
		return &apiError{"canceled", statusCanceled, err}
	case errors.Is(err, ErrUnavailable):
		return &apiError{"unavailable", http.StatusServiceUnavailable, err}
	case errors.Is(err, errQuery):
		return badData(err)
	case isA[promql.ErrStorage](err):
		return &apiError{"internal", http.StatusInternalServerError, err}
	}
	return &apiError{"execution", http.StatusUnprocessableEntity, err}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// endpoint answers a request by calling reply once, or returns an error and has not called it.
type endpoint func(r *http.Request, reply reply) *apiError

// reply begins a successful answer; body writes its data.
type reply func(notes annotations.Annotations, body func(*jsonWriter)) error

// Handler serves PromQL and the series on the paths of Prometheus' HTTP API, for Grafana and the like. It reads only.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	both := func(path string, e endpoint) {
		mux.Handle("GET "+path, s.serve(e))
		mux.Handle("POST "+path, s.serve(e))
	}
	both("/api/v1/query", s.serveInstant)
	both("/api/v1/query_range", s.serveRange)
	both("/api/v1/query_exemplars", serveEmpty("[]"))
	both("/api/v1/format_query", s.serveFormat)
	both("/api/v1/series", s.serveSeries)
	both("/api/v1/labels", s.serveLabelNames)
	mux.Handle("GET /api/v1/label/{name}/values", s.serve(s.serveLabelValues))
	mux.Handle("GET /api/v1/metadata", s.serve(s.serveMetadata))
	mux.Handle("GET /api/v1/status/buildinfo", s.serve(s.serveBuildInfo))
	mux.Handle("GET /api/v1/rules", s.serve(serveEmpty(`{"groups":[]}`)))
	mux.Handle("GET /api/v1/alerts", s.serve(serveEmpty(`{"alerts":[]}`)))
	return mux
}

func (s *Store) serve(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, s.cfg.Query.BodyBytes)
		if err := r.ParseForm(); err != nil {
			s.refuse(w, badData(fmt.Errorf("error parsing form values: %w", err)))
			return
		}
		// What is being written may rest on the open TSDB: a client that does not read must not hold it for ever.
		deadline := time.Now().Add(2 * s.cfg.Query.Timeout)
		if err := http.NewResponseController(w).SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
			s.log.Debug("no write deadline", agent.KeyErr, err)
		}
		begun := false
		err := e(r, func(notes annotations.Annotations, body func(*jsonWriter)) error {
			begun = true
			w.Header().Set("Content-Type", "application/json")
			out := &jsonWriter{Writer: bufio.NewWriterSize(w, 32<<10)}
			out.raw(`{"status":"success","data":`)
			body(out)
			warnings, infos := notes.AsStrings(r.Form.Get("query"), 10, 10)
			out.notes("warnings", warnings)
			out.notes("infos", infos)
			out.raw("}")
			return out.Flush()
		})
		switch {
		case err != nil && !begun:
			s.refuse(w, err)
		case err != nil: // too late for another status; the client sees a cut answer
			s.log.Debug("answer not written", agent.KeyErr, err.err)
		}
	})
}

func (w *jsonWriter) notes(kind string, list []string) {
	if len(list) == 0 {
		return
	}
	w.raw(`,"` + kind + `":`)
	w.strings(list)
}

func (s *Store) refuse(w http.ResponseWriter, e *apiError) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.code)
	body := struct {
		Status    string `json:"status"`
		ErrorType string `json:"errorType"`
		Error     string `json:"error"`
	}{"error", e.kind, e.err.Error()}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.log.Debug("answer not written", agent.KeyErr, err)
	}
}

// write finishes an endpoint.
func write(r reply, notes annotations.Annotations, body func(*jsonWriter)) *apiError {
	if err := r(notes, body); err != nil {
		return &apiError{"internal", http.StatusInternalServerError, err}
	}
	return nil
}

func serveEmpty(data string) endpoint {
	return func(_ *http.Request, r reply) *apiError {
		return write(r, nil, func(w *jsonWriter) { w.raw(data) })
	}
}

func (s *Store) serveBuildInfo(_ *http.Request, r reply) *apiError {
	return write(r, nil, func(w *jsonWriter) {
		w.raw(`{"version":"` + promVersion + `","revision":`)
		w.string("skerry-" + agent.Version())
		w.raw(`,"branch":"","buildUser":"","buildDate":"","goVersion":`)
		w.string(runtime.Version())
		w.raw("}")
	})
}
