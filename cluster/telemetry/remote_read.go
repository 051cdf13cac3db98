package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/skerry-edge/skerry/agent"
)

// advance sends all that the log has, and returns the segment that is still being written.
func (r *remote) advance(ctx context.Context, t *tail) (*tail, error) {
	for {
		have, err := r.mirror.segments()
		if err != nil {
			return t, err
		}
		if t == nil && !slices.Contains(have, r.at.Segment) && !r.skip(have) {
			return nil, nil // nothing is written yet
		}
		if t == nil {
			if t, err = openTail(r.mirror.path(r.at.Segment), r.log.quiet()); err != nil {
				return nil, err
			}
		}
		// Whether a next segment exists is known from before the reading: if so, this one was complete.
		last := have[len(have)-1] <= r.at.Segment
		r.dropping = !last && r.backlog(have) > r.cfg.QueueBytes
		if err := r.drain(ctx, t); err != nil {
			return t, err
		}
		if err := r.flush(ctx); err != nil || last {
			return t, err
		}
		t.close()
		t = nil
		r.at = position{Segment: r.at.Segment + 1}
	}
}

// skip moves to the first segment that is there, after one that is not.
func (r *remote) skip(have []int) bool {
	for _, n := range have {
		if n > r.at.Segment {
			r.gap(r.at.Segment)
			r.at = position{Segment: n}
			return true
		}
	}
	return false
}

// drain reads what the segment has. Damage counts as a gap: the rest of the segment is lost.
func (r *remote) drain(ctx context.Context, t *tail) error {
	for !t.damaged && t.log.Next() {
		t.done++
		if err := r.record(t.log.Record(), t.done > r.at.Records); err != nil {
			t.damaged = true
			r.gap(r.at.Segment)
			return nil
		}
		r.at.Records = max(r.at.Records, t.done)
		if len(r.pending) < samplesPerRequest {
			continue
		}
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	if err := t.log.Err(); !t.damaged && err != nil && !errors.Is(err, io.EOF) {
		if isSystemError(err) {
			return fmt.Errorf("read log: %w", err)
		}
		t.damaged = true
		r.gap(r.at.Segment)
	}
	return nil
}

// record takes the series of a record, and its samples unless they were sent before.
func (r *remote) record(rec []byte, fresh bool) error {
	dec := record.NewDecoder(nil, r.log.quiet())
	switch dec.Type(rec) {
	case record.Series:
		return r.series.take(&dec, rec, r.at.Segment)
	case record.Samples, record.SamplesV2:
		if !fresh {
			return nil
		}
		samples, err := dec.Samples(rec, r.scratch[:0])
		if err != nil {
			return fmt.Errorf("decode samples: %w", err)
		}
		r.scratch = samples
		if r.dropping {
			r.drop(len(samples))
			return nil
		}
		r.pending = append(r.pending, samples...)
	}
	return nil
}

func (r *remote) drop(n int) {
	r.store.metrics.remoteDropped.WithLabelValues(r.cfg.Name).Add(float64(n))
}

// flush sends what is pending and then writes the position down.
func (r *remote) flush(ctx context.Context) error {
	for rest := r.pending; len(rest) > 0 && !r.dropping; {
		n := min(len(rest), samplesPerRequest)
		if err := r.deliver(ctx, rest[:n], maxSplits); err != nil {
			return err
		}
		rest = rest[n:]
		r.pending = rest
	}
	r.drop(len(r.pending)) // only when the queue ran over meanwhile
	r.pending = r.pending[:0]
	if r.flushed == r.at {
		return nil
	}
	r.flushed = r.at
	return r.save()
}

// backlog measures what the receiver has not got.
func (r *remote) backlog(have []int) int64 {
	n := r.mirror.bytes(r.at.Segment, have)
	r.store.metrics.remoteBacklog.WithLabelValues(r.cfg.Name).Set(float64(n))
	return n
}

// hold keeps the queue in order while the receiver is away: it takes new segments before the TSDB deletes them, and
// gives the rest of the current one up when the queue is full.
func (r *remote) hold() error {
	if err := r.mirror.refresh(); err != nil {
		return err
	}
	have, err := r.mirror.segments()
	if err != nil {
		return err
	}
	if r.backlog(have) > r.cfg.QueueBytes && len(have) > 0 && have[len(have)-1] > r.at.Segment {
		r.dropping = true
		r.log.Warn("remote write queue is full, dropping the oldest", agent.KeyBytes, r.cfg.QueueBytes)
	}
	return nil
}

// prune frees what was sent, and forgets series that the TSDB forgot.
func (r *remote) prune() error {
	stand, err := r.mirror.prune(r.flushed.Segment)
	if err != nil || stand <= r.pruned {
		return err
	}
	r.pruned = stand
	return r.series.forget(wlog.CheckpointDir(r.mirror.dir, stand), stand)
}

// tail is an open segment, read as it grows.
type tail struct {
	file    io.Closer
	log     *wlog.LiveReader
	done    int  // records read
	damaged bool // nothing after this can be read
}

func openTail(path string, log *slog.Logger) (*tail, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	metrics := wlog.NewLiveReaderMetrics(prometheus.NewRegistry())
	return &tail{file: f, log: wlog.NewLiveReader(log, metrics, f)}, nil
}

// close is for a file that was only read from: it has nothing to report.
func (t *tail) close() {
	if t != nil {
		_ = t.file.Close()
	}
}
