package telemetry

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

// refGap is by how much the numbers of series jump when some may have been cut out of the log: more than a head ever has, and
// few enough that the 40 bits that a number has last for 65,000 damages.
const refGap = 1 << 24

// raiseRefs has new series begin with numbers that none had before. The TSDB counts on from the greatest in the log; were that
// cut out, the next series would get the number of another, and with it, at the next start, the late samples and the chunks of
// that, which lie in files of their own. So the log is told of a series with a great number, which never has a sample.
func (m *mender) raiseRefs() error {
	wal := filepath.Join(m.dir, "wal")
	last, err := lastRef(wal)
	if err != nil {
		return err
	}
	w, err := wlog.New(m.log, nil, wal, compression.Snappy)
	if err != nil {
		return fmt.Errorf("number series anew: %w", err)
	}
	var enc record.Encoder
	raw := enc.Series([]record.RefSeries{{Ref: last + refGap, Labels: labels.FromStrings(model.MetricNameLabel, "skerry_log_mended")}}, nil)
	if err := errors.Join(w.Log(raw), w.Close()); err != nil {
		return fmt.Errorf("number series anew: %w", err)
	}
	return nil
}

// lastRef is the greatest number of a series in what can be read of a log and its checkpoint.
func lastRef(wal string) (last chunks.HeadSeriesRef, err error) {
	list, err := filepath.Glob(filepath.Join(wal, "checkpoint.*", "[0-9]*"))
	if err != nil {
		return 0, fmt.Errorf("list checkpoints: %w", err)
	}
	names, err := segments(wal)
	if err != nil {
		return 0, fmt.Errorf("list log: %w", err)
	}
	for _, name := range names {
		list = append(list, filepath.Join(wal, name))
	}
	dec := record.NewDecoder(labels.NewSymbolTable(), slog.New(slog.DiscardHandler))
	for _, path := range list {
		seg, err := wlog.OpenReadSegment(path)
		if err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
		r := wlog.NewSegmentBufReader(seg)
		for records := wlog.NewReader(r); records.Next(); {
			if dec.Type(records.Record()) != record.Series {
				continue
			}
			series, err := dec.Series(records.Record(), nil)
			if err != nil {
				continue // its checksum is right: nobody can read it
			}
			for _, s := range series {
				last = max(last, s.Ref)
			}
		}
		if err := r.Close(); err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
	}
	return last, nil
}
