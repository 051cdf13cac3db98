package telemetry

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
)

// refs names the series that the log's samples refer to.
type refs map[chunks.HeadSeriesRef]namedSeries

type namedSeries struct {
	labels  labels.Labels
	segment int // the last that named it
}

// take adds the series of a record.
func (r refs) take(dec *record.Decoder, rec []byte, segment int) error {
	series, err := dec.Series(rec, nil)
	if err != nil {
		return fmt.Errorf("decode series: %w", err)
	}
	for _, s := range series {
		r[s.Ref] = namedSeries{s.Labels, segment}
	}
	return nil
}

// readSegment adds the series of a whole segment.
func (r refs) readSegment(path string, segment int) error {
	log := slog.New(slog.DiscardHandler)
	t, err := openTail(path, log)
	if err != nil {
		return err
	}
	defer t.close()
	dec := record.NewDecoder(nil, log)
	for t.log.Next() {
		if dec.Type(t.log.Record()) != record.Series {
			continue
		}
		if err := r.take(&dec, t.log.Record(), segment); err != nil {
			return err
		}
	}
	if err := t.log.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return nil
}

// readCheckpoint adds the series of a checkpoint.
func (r refs) readCheckpoint(dir string, number int) error {
	names, err := segments(dir)
	if err != nil {
		return fmt.Errorf("list checkpoint: %w", err)
	}
	for _, name := range names {
		if err := r.readSegment(filepath.Join(dir, name), number); err != nil {
			return err
		}
	}
	return nil
}

// forget drops the series that a checkpoint no longer has and nothing after it named.
func (r refs) forget(dir string, number int) error {
	alive := refs{}
	if err := alive.readCheckpoint(dir, number); err != nil {
		return err
	}
	for ref, s := range r {
		if _, ok := alive[ref]; !ok && s.segment <= number {
			delete(r, ref)
		}
	}
	return nil
}
