package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// syncPoint is how far the log is known to be on the disk, and who wants to know.
type syncPoint struct {
	mu       sync.Mutex
	pos      uint64
	moved    chan struct{} // closed and replaced when pos moves
	notify   []func(pos uint64)
	dirty    chan struct{} // one token: something was committed
	urgent   chan struct{} // one token: somebody waits
	segments map[string]int64
}

func (p *syncPoint) init() {
	p.moved, p.dirty, p.urgent = make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1)
	p.segments = map[string]int64{}
}

func (p *syncPoint) wake() { signal(p.dirty) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (p *syncPoint) advance(pos uint64) {
	p.mu.Lock()
	if pos <= p.pos {
		p.mu.Unlock()
		return
	}
	p.pos = pos
	close(p.moved)
	p.moved = make(chan struct{})
	notify := p.notify
	p.mu.Unlock()
	for _, fn := range notify {
		fn(pos)
	}
}

// OnSync has fn called with the new SyncedTo whenever it moves, from one goroutine, in order. fn must not block. It is
// meant to be called before Run.
func (s *Store) OnSync(fn func(pos uint64)) {
	s.synced.mu.Lock()
	defer s.synced.mu.Unlock()
	s.synced.notify = append(slices.Clone(s.synced.notify), fn)
}

// SyncedTo is the position up to which everything that Append returned is on the disk. It begins at 0 in each process.
func (s *Store) SyncedTo() uint64 {
	s.synced.mu.Lock()
	defer s.synced.mu.Unlock()
	return s.synced.pos
}

// AwaitSync waits until SyncedTo has reached pos.
func (s *Store) AwaitSync(ctx context.Context, pos uint64) error {
	for {
		s.synced.mu.Lock()
		reached, moved := s.synced.pos >= pos, s.synced.moved
		s.synced.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("await telemetry sync: %w", ctx.Err())
		case <-s.stopped:
			if s.SyncedTo() >= pos {
				return nil
			}
			return ErrUnavailable
		}
	}
}

// Sync brings everything appended so far to the disk, without waiting for the interval. Calls share fsyncs.
func (s *Store) Sync(ctx context.Context) error {
	pos := s.committed.Load()
	if s.SyncedTo() >= pos {
		return nil
	}
	signal(s.synced.urgent)
	return s.AwaitSync(ctx, pos)
}

// syncLoop syncs while there is something to sync, at most once an interval unless somebody asks.
func (s *Store) syncLoop(ctx context.Context) error {
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.synced.urgent:
		case <-s.synced.dirty:
			rest := time.NewTimer(s.cfg.SyncInterval - time.Since(last))
			select {
			case <-rest.C:
			case <-s.synced.urgent:
			case <-ctx.Done():
				rest.Stop()
				return nil
			}
			rest.Stop()
		}
		last = time.Now()
		if err := s.syncNow(); err != nil {
			s.log.Error("telemetry log cannot be synced", agent.KeyErr, err)
			return err
		}
	}
}

// syncNow syncs what was committed before the call.
func (s *Store) syncNow() error {
	pos := s.committed.Load()
	start := time.Now()
	for _, dir := range []string{"wal", "wbl"} {
		if err := s.synced.syncDir(filepath.Join(s.cfg.Dir, dir)); err != nil {
			return fmt.Errorf("sync telemetry: %w", err)
		}
	}
	s.metrics.syncSeconds.Observe(time.Since(start).Seconds())
	s.synced.advance(pos)
	return nil
}

// syncDir syncs the segments of a log that changed since the last call, by descriptors of its own: the TSDB syncs a
// segment only when it is full. A segment that is gone was compacted into a block, which the TSDB syncs.
func (p *syncPoint) syncDir(dir string) error {
	names, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	fresh := false
	for _, name := range names {
		path := filepath.Join(dir, name)
		size, err := syncFile(path, p.segments[path])
		if errors.Is(err, fs.ErrNotExist) {
			delete(p.segments, path)
			continue
		}
		if err != nil {
			return err
		}
		if _, known := p.segments[path]; !known {
			fresh = true
		}
		p.segments[path] = size
	}
	for path := range p.segments {
		if filepath.Dir(path) == dir && !slices.Contains(names, filepath.Base(path)) {
			delete(p.segments, path)
		}
	}
	if fresh {
		_, err = syncFile(dir, -1)
	}
	return err
}

// syncFile syncs a file that is longer than it was, and returns its length.
func syncFile(path string, was int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() == was && was > 0 {
		return was, nil
	}
	return st.Size(), f.Sync()
}
