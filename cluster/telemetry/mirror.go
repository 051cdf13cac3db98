package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/tsdb/wlog"
)

// mirror keeps segments of the write-ahead log by hard links after the TSDB has deleted its own, with the checkpoint
// that names the series of what went before them. Links cost no space until then.
type mirror struct {
	from, dir string
}

func (m mirror) path(segment int) string { return wlog.SegmentName(m.dir, segment) }

// segments returns the numbers of those kept, in order.
func (m mirror) segments() ([]int, error) {
	names, err := segments(m.dir)
	if err != nil {
		return nil, fmt.Errorf("list remote write queue: %w", err)
	}
	out := make([]int, len(names))
	for i, name := range names {
		out[i] = number(name)
	}
	return out, nil
}

// errLogAnew says that the log was set aside and begins at 0 again.
var errLogAnew = errors.New("the log begins anew")

// refresh links what is new: segments first, since the TSDB deletes them only after their checkpoint is there.
func (m mirror) refresh() error {
	names, err := segments(m.from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list log: %w", err)
	}
	have, err := segments(m.dir)
	if err != nil {
		return fmt.Errorf("list remote write queue: %w", err)
	}
	if len(names) > 0 && len(have) > 0 && names[len(names)-1] < have[len(have)-1] {
		return errLogAnew
	}
	for _, name := range names {
		if slices.Contains(have, name) || len(have) > 0 && name < have[len(have)-1] {
			continue // the latter were sent and pruned
		}
		err := os.Link(filepath.Join(m.from, name), filepath.Join(m.dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep log for remote write: %w", err)
		}
	}
	return m.linkCheckpoint()
}

// linkCheckpoint takes the log's newest checkpoint.
func (m mirror) linkCheckpoint() error {
	newest, path, err := lastCheckpoint(m.from)
	if err != nil || path == "" {
		return err
	}
	if have, _, err := lastCheckpoint(m.dir); err != nil || have >= newest {
		return err
	}
	names, err := segments(path)
	if err != nil {
		return fmt.Errorf("list checkpoint: %w", err)
	}
	tmp := filepath.Join(m.dir, "checkpoint.tmp")
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o750)); err != nil {
		return fmt.Errorf("keep checkpoint for remote write: %w", err)
	}
	for _, name := range names {
		if err := os.Link(filepath.Join(path, name), filepath.Join(tmp, name)); err != nil {
			return fmt.Errorf("keep checkpoint for remote write: %w", err)
		}
	}
	if err := os.Rename(tmp, filepath.Join(m.dir, filepath.Base(path))); err != nil {
		return fmt.Errorf("keep checkpoint for remote write: %w", err)
	}
	return nil
}

// prune deletes what is not needed to go on from a segment: segments before it that a newer checkpoint stands for, and
// older checkpoints. It returns that checkpoint's number, -1 for none.
func (m mirror) prune(segment int) (stand int, err error) {
	stand = -1
	numbers, err := checkpoints(m.dir)
	if err != nil {
		return stand, err
	}
	for _, n := range numbers {
		if n < segment {
			stand = max(stand, n)
		}
	}
	if stand < 0 {
		return stand, nil
	}
	have, err := m.segments()
	if err != nil {
		return stand, err
	}
	var errs []error
	for _, n := range have {
		if n <= stand {
			errs = append(errs, os.Remove(m.path(n)))
		}
	}
	for _, n := range numbers {
		if n < stand {
			errs = append(errs, os.RemoveAll(wlog.CheckpointDir(m.dir, n)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return stand, fmt.Errorf("prune remote write queue: %w", err)
	}
	return stand, nil
}

// bytes is the size of the segments from one on.
func (m mirror) bytes(from int, have []int) (sum int64) {
	for _, n := range have {
		if n < from {
			continue
		}
		if st, err := os.Stat(m.path(n)); err == nil {
			sum += st.Size()
		}
	}
	return sum
}

func lastCheckpoint(dir string) (number int, path string, err error) {
	numbers, err := checkpoints(dir)
	if err != nil || len(numbers) == 0 {
		return -1, "", err
	}
	number = slices.Max(numbers)
	return number, wlog.CheckpointDir(dir, number), nil
}

// checkpoints lists the numbers of the complete checkpoints in dir.
func checkpoints(dir string) (numbers []int, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), "checkpoint.")
		if n, err := strconv.Atoi(digits); ok && err == nil && n >= 0 && e.IsDir() {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}
