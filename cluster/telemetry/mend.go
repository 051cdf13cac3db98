package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/skerry-edge/skerry/agent"
)

// asideDir collects what could not be read, for whoever wants to try. Nothing in it counts as data.
const asideDir = "aside"

// mender prepares a directory for the TSDB, whose own repair gives up too much: for one bad byte in a log it deletes all
// later segments, for one in a checkpoint it deletes the log, for one in a block it refuses to open. The mender cuts off
// no more than the rest of the segment (a record never spans two) and puts a bad block aside.
type mender struct {
	dir    string
	log    *slog.Logger
	report func(Damage)
	short  bool // some log ended before its time: series may be missing from it
}

func (m *mender) mend() error {
	wal := filepath.Join(m.dir, "wal")
	for _, dir := range []string{wal, filepath.Join(m.dir, "wbl")} {
		if err := m.undoRepair(dir); err != nil {
			return err
		}
		if err := m.mendLog(dir, DamageLog); err != nil {
			return err
		}
	}
	if err := m.dropMarkers(filepath.Join(m.dir, "wbl")); err != nil {
		return err
	}
	checkpoints, err := filepath.Glob(filepath.Join(wal, "checkpoint.*"))
	if err != nil {
		return fmt.Errorf("list checkpoints: %w", err)
	}
	for _, dir := range checkpoints {
		if strings.HasSuffix(dir, ".tmp") {
			continue // the TSDB removes it
		}
		if err := m.mendLog(dir, DamageCheckpoint); err != nil {
			return err
		}
	}
	if m.short {
		if err := m.raiseRefs(); err != nil { // the disk may be full, and then takes no new series either
			m.log.Warn("series not numbered anew", agent.KeyErr, err)
		}
	}
	return m.mendBlocks()
}

// undoRepair puts a segment back that the TSDB's repair had moved away when the process died: its copy is incomplete.
func (m *mender) undoRepair(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*.repair"))
	if err != nil {
		return fmt.Errorf("list repairs: %w", err)
	}
	for _, path := range left {
		if err := os.Rename(path, strings.TrimSuffix(path, ".repair")); err != nil {
			return fmt.Errorf("undo repair: %w", err)
		}
	}
	return nil
}

// mendLog reads every segment of a log and cuts it off where it cannot be read further.
func (m *mender) mendLog(dir string, kind DamageKind) error {
	names, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list log: %w", err)
	}
	for i, name := range names {
		path := filepath.Join(dir, name)
		if i > 0 {
			if err := m.fillHole(dir, number(names[i-1])+1, number(name), kind); err != nil {
				return err
			}
		}
		good, cause, err := readable(path)
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if cause == nil {
			continue
		}
		m.short = true
		st, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if st.Size() <= good {
			continue // the missing end of the last record is all there is to it
		}
		if err := cut(path, good); err != nil {
			return fmt.Errorf("cut log: %w", err)
		}
		m.report(Damage{Kind: kind, Path: path, Bytes: st.Size() - good, Cause: cause})
	}
	return nil
}

// maxHole is how many segments may be missing in a row: 1,000 are more than a log ever has.
const maxHole = 1000

// fillHole puts empty segments in place of missing ones, from one up to another: the TSDB refuses a sequence with a
// hole, and with it everything that is left.
func (m *mender) fillHole(dir string, from, to int, kind DamageKind) error {
	if from == to || to-from > maxHole {
		return nil
	}
	for n := from; n < to; n++ {
		if err := os.WriteFile(wlog.SegmentName(dir, n), nil, 0o600); err != nil {
			return fmt.Errorf("replace lost segment: %w", err)
		}
	}
	m.short = true
	m.report(Damage{Kind: kind, Path: wlog.SegmentName(dir, from), Cause: fmt.Errorf("%d segments are missing", to-from)})
	return nil
}

// number is a segment's, whose name is known to be digits.
func number(name string) int {
	n, err := strconv.Atoi(name)
	if err != nil {
		return -1
	}
	return n
}

// readable returns how much of a segment consists of whole records, and why no more of it does; err is the machine's.
func readable(path string) (good int64, cause, err error) {
	seg, err := wlog.OpenReadSegment(path)
	if err != nil {
		return 0, nil, err
	}
	r := wlog.NewSegmentBufReader(seg)
	defer r.Close()
	records := wlog.NewReader(r)
	for records.Next() {
		good = records.Offset()
	}
	cause = records.Err()
	if isSystemError(cause) {
		return 0, nil, cause
	}
	return good, cause, nil
}

// cut shortens a file for good.
func cut(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// mendBlocks puts blocks aside that cannot be opened.
func (m *mender) mendBlocks() error {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return fmt.Errorf("list blocks: %w", err)
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		path := filepath.Join(m.dir, e.Name())
		block, cause := tsdb.OpenBlock(m.log, path, nil, nil)
		if cause == nil {
			if err := block.Close(); err != nil {
				return fmt.Errorf("close block: %w", err)
			}
			continue
		}
		if isSystemError(cause) {
			return fmt.Errorf("open block %s: %w", e.Name(), cause)
		}
		if err := m.setAside(DamageBlock, cause, e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// setAside moves what is there of names out of the TSDB's way.
func (m *mender) setAside(kind DamageKind, cause error, names ...string) error {
	to := filepath.Join(m.dir, asideDir)
	if err := os.MkdirAll(to, 0o750); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	for _, name := range names {
		path := filepath.Join(m.dir, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		size := treeBytes(path)
		kept := filepath.Join(to, strconv.FormatInt(time.Now().UnixMilli(), 10)+"-"+name)
		if err := os.Rename(path, kept); err != nil {
			return fmt.Errorf("set aside: %w", err)
		}
		m.report(Damage{Kind: kind, Path: kept, Bytes: size, Cause: cause})
	}
	return nil
}

// treeBytes is the size of the files below dir, as far as they can be seen.
func treeBytes(dir string) (sum int64) {
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return sum
}
