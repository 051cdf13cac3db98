package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

// dropMarkers rewrites segments of the out-of-order log without their markers. A marker says that the samples before it
// are in a chunk on the disk, so that a replay may skip them. The TSDB writes it before it writes the chunk: after a
// kill the chunk is missing, the next process puts another one in its place, and the replay after that skips samples
// that are nowhere. Without markers a replay takes every sample; those that are in a chunk too are merged when read.
func (m *mender) dropMarkers(dir string) error {
	names, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list out-of-order log: %w", err)
	}
	for _, name := range names {
		if err := m.dropMarkersOf(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("rewrite out-of-order log: %w", err)
		}
	}
	return nil
}

func (m *mender) dropMarkersOf(path string) error {
	marked := false
	err := eachRecord(path, func(kind record.Type, _ []byte) error {
		marked = marked || kind == record.MmapMarkers
		return nil
	})
	if err != nil || !marked {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "rewrite.tmp") // the TSDB passes over such names
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	whole := (int(st.Size())/walPage + 2) * 2 * walPage // more than the rest can need: it must stay one segment
	log, err := wlog.NewSize(m.log, nil, tmp, whole, compression.Snappy)
	if err != nil {
		return err
	}
	err = eachRecord(path, func(kind record.Type, rec []byte) error {
		if kind == record.MmapMarkers {
			return nil
		}
		return log.Log(rec)
	})
	if err := errors.Join(err, log.Close()); err != nil { // Close syncs
		return err
	}
	if err := os.Rename(wlog.SegmentName(tmp, 0), path); err != nil {
		return err
	}
	if _, err := syncFile(filepath.Dir(path), -1); err != nil {
		return err
	}
	return os.RemoveAll(tmp)
}

// eachRecord calls use for the records of a segment that has been mended.
func eachRecord(path string, use func(record.Type, []byte) error) error {
	seg, err := wlog.OpenReadSegment(path)
	if err != nil {
		return err
	}
	r := wlog.NewSegmentBufReader(seg)
	defer r.Close()
	dec := record.NewDecoder(nil, nil)
	records := wlog.NewReader(r)
	for records.Next() {
		if err := use(dec.Type(records.Record()), records.Record()); err != nil {
			return err
		}
	}
	return records.Err()
}
