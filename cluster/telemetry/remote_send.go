package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"

	"github.com/skerry-edge/skerry/agent"
)

const (
	samplesPerRequest = 2000 // what Prometheus sends at once
	maxSplits         = 48   // extra requests to find the bad samples of one that was refused
	maxReplyBytes     = 512  // of an error's text that is kept
	longestRetryAfter = 5 * time.Minute
)

// errRefused marks a request that the receiver will never take.
var errRefused = errors.New("refused")

// deliver sends samples until the receiver has them. What it refuses for good is split to find the samples at fault, as
// far as splits lasts; those are counted and dropped.
func (r *remote) deliver(ctx context.Context, samples []record.RefSample, splits int) error {
	_, err := r.deliverSplit(ctx, samples, splits)
	return err
}

func (r *remote) deliverSplit(ctx context.Context, samples []record.RefSample, splits int) (left int, err error) {
	body, known, err := r.request.encode(samples, r.series)
	if err != nil {
		return splits, err
	}
	if known > 0 {
		err = r.insist(ctx, body)
	}
	switch {
	case err == nil: // what is not known was named in a part of the log that is lost
		r.store.metrics.remoteSent.WithLabelValues(r.cfg.Name).Add(float64(known))
		r.drop(len(samples) - known)
		return splits, nil
	case !errors.Is(err, errRefused):
		return splits, err
	case len(samples) == 1 || splits < 2 || r.dropping:
		r.drop(len(samples))
		r.log.Warn("remote write dropped samples", agent.KeyCount, len(samples), agent.KeyErr, err)
		return splits, nil
	}
	half := len(samples) / 2
	if splits, err = r.deliverSplit(ctx, samples[:half], splits-2); err != nil {
		return splits, err
	}
	return r.deliverSplit(ctx, samples[half:], splits)
}

// insist repeats a request until it is taken, refused for good, or the queue has run over.
func (r *remote) insist(ctx context.Context, body []byte) error {
	wait := agent.Backoff{Min: 100 * time.Millisecond, Max: 30 * time.Second}
	told := false
	for {
		after, err := r.sender.post(ctx, body)
		if ctx.Err() == nil {
			r.failed(err)
		}
		if err == nil || errors.Is(err, errRefused) {
			if told && err == nil {
				r.log.Info("remote write goes on")
			}
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !told {
			told = true
			r.log.Warn("remote write fails, will go on trying", agent.KeyErr, err)
		}
		r.store.metrics.remoteRetry.WithLabelValues(r.cfg.Name).Inc()
		if err := r.hold(); err != nil {
			return err
		}
		if r.dropping {
			return fmt.Errorf("%w: queue is full: %w", errRefused, err)
		}
		if !agent.Wait(ctx, max(wait.Next(), after)) {
			return ctx.Err()
		}
	}
}

// sender posts remote-write 1.0 requests.
type sender struct {
	cfg    Remote
	client *http.Client
}

// post sends one request. An error that is not errRefused is worth another try, after at least the time returned. A
// missing right or path counts as such: whoever runs the receiver can cure it, and the samples wait.
func (s *sender) post(ctx context.Context, body []byte) (after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "skerry/"+agent.Version())
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	for k, v := range s.cfg.Headers {
		req.Header.Set(k, v)
	}
	if s.cfg.BearerFile != "" {
		token, err := os.ReadFile(s.cfg.BearerFile)
		if err != nil {
			return 0, fmt.Errorf("read token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes))
	if err != nil && resp.StatusCode/100 != 2 {
		text = nil // the status says enough
	}
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return 0, nil
	case code/100 == 5, code/100 == 3, code == http.StatusTooManyRequests, code == http.StatusUnauthorized, code == http.StatusForbidden,
		code == http.StatusNotFound, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return retryAfter(resp.Header.Get("Retry-After")), fmt.Errorf("receiver answers %d: %.200s", code, text)
	default:
		return 0, fmt.Errorf("%w: receiver answers %d: %.200s", errRefused, code, text)
	}
}

func retryAfter(text string) time.Duration {
	sec, err := strconv.Atoi(text)
	if err != nil || sec < 0 {
		return 0
	}
	return min(time.Duration(sec)*time.Second, longestRetryAfter)
}

// writeRequest builds requests in memory that it keeps.
type writeRequest struct {
	req   prompb.WriteRequest
	index map[chunks.HeadSeriesRef]int
	raw   []byte
	out   []byte
}

// encode returns the snappy block of a request with those samples whose series are known, and their number. It is valid
// until the next call.
func (w *writeRequest) encode(samples []record.RefSample, series refs) (body []byte, known int, err error) {
	if w.index == nil {
		w.index = map[chunks.HeadSeriesRef]int{}
	}
	clear(w.index)
	w.req.Timeseries = w.req.Timeseries[:0]
	for _, s := range samples {
		i, ok := w.index[s.Ref]
		if !ok {
			named, have := series[s.Ref]
			if !have {
				continue
			}
			i = w.add(named.labels)
			w.index[s.Ref] = i
		}
		ts := &w.req.Timeseries[i]
		ts.Samples = append(ts.Samples, prompb.Sample{Value: s.V, Timestamp: s.T})
		known++
	}
	size := w.req.Size()
	if cap(w.raw) < size {
		w.raw = make([]byte, size)
	}
	n, err := w.req.MarshalTo(w.raw[:size])
	if err != nil {
		return nil, 0, fmt.Errorf("encode remote write request: %w", err)
	}
	w.out = snappy.Encode(w.out[:cap(w.out)], w.raw[:n])
	return w.out, known, nil
}

// add appends a series without samples, in the memory of an earlier one if there is any.
func (w *writeRequest) add(ls labels.Labels) int {
	i := len(w.req.Timeseries)
	if i < cap(w.req.Timeseries) {
		w.req.Timeseries = w.req.Timeseries[:i+1]
	} else {
		w.req.Timeseries = append(w.req.Timeseries, prompb.TimeSeries{})
	}
	ts := &w.req.Timeseries[i]
	ts.Labels, ts.Samples = ts.Labels[:0], ts.Samples[:0]
	ls.Range(func(l labels.Label) { ts.Labels = append(ts.Labels, prompb.Label{Name: l.Name, Value: l.Value}) })
	return i
}
