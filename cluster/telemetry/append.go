package telemetry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/skerry-edge/skerry/api"
)

// The bounds of one commit: enough to share its cost, little enough that the first of a crowd does not wait for all.
const (
	maxGroupBatches = 1024
	maxGroupSamples = 64 << 10
)

// request is a batch on its way through the ingest goroutine.
type request struct {
	node    string
	series  *nodeSeries
	batch   *api.Batch
	entries []*entry // one per series of batch; nil: not allowed
	count   rejections
	pos     uint64
	err     error
	done    chan struct{}
}

func (r *request) finish(pos uint64, err error) {
	r.pos, r.err = pos, err
	r.done <- struct{}{}
}

// Append stores a batch of node. When it returns nil the samples are in the write-ahead log, safe from the death of this
// process; once SyncedTo has reached pos they are safe from a power cut too. Samples that cannot be stored (see Reason)
// are counted and do not fail the batch. ErrMalformed says that sending the batch again is useless; any other error that
// nothing of it can be relied upon. Append waits while the store opens or others are being stored; when ctx ends first,
// the batch may still be stored, and the caller must leave it unchanged.
func (s *Store) Append(ctx context.Context, node string, batch *api.Batch) (pos uint64, err error) {
	start := time.Now()
	if err := batch.Validate(); err != nil {
		s.metrics.malformed.Inc()
		return 0, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	select {
	case <-s.ready:
	case <-s.stopped:
		return 0, ErrUnavailable
	case <-ctx.Done():
		return 0, fmt.Errorf("append telemetry: %w", ctx.Err())
	}
	r := s.requests.Get().(*request)
	r.node, r.batch, r.count = node, batch, rejections{}
	if err := s.resolve(r); err != nil {
		s.metrics.malformed.Inc()
		return 0, err
	}
	select {
	case s.queue <- r:
	case <-s.stopped:
		return 0, ErrUnavailable
	case <-ctx.Done():
		return 0, fmt.Errorf("append telemetry: %w", ctx.Err())
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("append telemetry: %w", ctx.Err()) // r stays with the ingest goroutine
	case <-s.stopped:
		select {
		case <-r.done: // it was served last
		default:
			return 0, ErrUnavailable
		}
	}
	pos, err = r.pos, r.err
	clear(r.entries)
	r.batch, r.series = nil, nil
	s.requests.Put(r)
	s.metrics.latency.Observe(time.Since(start).Seconds())
	return pos, err
}

// resolve finds the series of a batch, parsing names that are new.
func (s *Store) resolve(r *request) (err error) {
	now := s.cfg.Now()
	r.series = s.nodes.get(r.node, now)
	r.series.mu.Lock()
	defer r.series.mu.Unlock()
	r.series.age(now)
	r.entries, err = r.series.lookup(r.batch.Series, r.entries[:0], s.cfg.SeriesPerNode, func(name string) (labels.Labels, error) {
		return seriesLabels(s.cfg.Cluster, r.node, name)
	})
	return err
}

// ingest commits batches until ctx ends: all that came while the last commit ran go into the next.
func (s *Store) ingest(ctx context.Context) {
	group := make([]*request, 0, maxGroupBatches)
	for {
		group = group[:0]
		select {
		case <-ctx.Done():
			return
		case r := <-s.queue:
			group = s.gather(append(group, r))
		}
		if group = s.sure(group); len(group) == 0 {
			continue
		}
		if err := s.commit(ctx, group); err != nil {
			for _, r := range group {
				r.finish(0, fmt.Errorf("%w: %w", ErrUnavailable, err))
			}
			if !errors.Is(err, errNoRoom) && !errors.Is(err, ErrClock) {
				s.reopen(ctx, err)
			}
			continue
		}
		pos := s.committed.Add(1)
		for _, r := range group {
			s.account(r)
			r.finish(pos, nil)
		}
		s.synced.wake()
		for _, rem := range s.remotes {
			rem.wake()
		}
	}
}

// gather adds what waits, without waiting itself.
func (s *Store) gather(group []*request) []*request {
	samples := group[0].size()
	for len(group) < maxGroupBatches && samples < maxGroupSamples {
		select {
		case r := <-s.queue:
			group = append(group, r)
			samples += r.size()
		default:
			return group
		}
	}
	return group
}

func (r *request) size() int { return len(r.batch.Rows) * len(r.batch.Series) }

// commit writes a group as one transaction.
func (s *Store) commit(ctx context.Context, group []*request) error {
	if now := time.Now(); s.room != nil || now.Sub(s.roomAt) > roomEvery {
		if s.room = s.hasRoom(); s.room != nil {
			return s.room
		}
		s.roomAt = now
	}
	if err := s.cfg.Doubt(false); err != nil {
		return fmt.Errorf("%w: %w", ErrClock, err)
	}
	ses := s.session // only this goroutine replaces it
	if ses == nil {
		return errors.New("not open")
	}
	w := writer{db: ses.db, app: ses.db.AppenderV2(ctx), opened: ses.number, commit: s.committed.Load() + 1}
	now := s.cfg.Now()
	w.latest = now.Add(s.cfg.MaxFuture).UnixMilli()
	w.earliest = now.Add(-max(s.cfg.OutOfOrderWindow, 0)).UnixMilli()
	if s.cfg.OutOfOrderWindow < 0 {
		w.earliest = now.Add(-s.cfg.Retention).UnixMilli()
	}
	for _, r := range group {
		w.add(ctx, r)
	}
	if err := w.app.Commit(); err != nil {
		return err
	}
	if w.late && ses.wblFailed != nil && ses.wblFailed() > 0 {
		return errors.New("write out-of-order log: failed")
	}
	s.metrics.groupBatches.Observe(float64(len(group)))
	s.metrics.batches.Add(float64(len(group)))
	s.metrics.samples.Add(float64(w.stored))
	return nil
}

// writer puts batches into one transaction.
type writer struct {
	db               *tsdb.DB
	app              storage.AppenderV2
	opened, commit   uint64
	earliest, latest int64 // of a sample, milliseconds since 1970
	stored           int
	late             bool // a sample may have gone to the out-of-order log
}

func (w *writer) add(ctx context.Context, r *request) {
	t0 := int64(r.batch.T0)
	for i := range r.batch.Rows {
		row := &r.batch.Rows[i]
		t := t0 + row.OffsetMillis
		taken := w.taken(ctx, r, row, t)
		for j, v := range row.Values {
			if math.IsNaN(v) {
				continue
			}
			switch {
			case t > w.latest:
				r.count[rejectFuture]++
			case t < w.earliest:
				r.count[rejectTooOld]++
			case r.entries[j] == nil:
				r.count[rejectSeriesLimit]++
			case taken && w.lost(ctx, r, r.entries[j], t, v):
			default:
				w.sample(r, r.entries[j], t, v)
			}
		}
	}
}

func (w *writer) sample(r *request, e *entry, t int64, v float64) {
	if e.opened != w.opened {
		e.opened, e.ref, e.newest = w.opened, 0, math.MinInt64
	}
	if e.commit == w.commit && e.at == t { // the TSDB would drop the second of them without a word
		if e.value != v {
			r.count[rejectDuplicate]++
		}
		return
	}
	ref, err := w.app.Append(e.ref, e.lset, 0, t, v, nil, nil, storage.AOptions{})
	switch {
	case err == nil:
		w.late = w.late || e.ref == 0 || t < e.newest
		e.ref, e.commit, e.at, e.value, e.newest = ref, w.commit, t, v, max(e.newest, t)
		w.stored++
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		r.count[rejectDuplicate]++
	case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrOutOfOrderSample):
		r.count[rejectTooOld]++
	default:
		r.count[rejectOther]++
	}
}

// roomEvery is how long a look at the free space holds while there is enough: far shorter than it takes to fill the
// reserve.
const roomEvery = 100 * time.Millisecond

// errNoRoom says that the disk is nearly full. Taking nothing is better than a log torn by a write that fails half way.
var errNoRoom = errors.New("disk is nearly full")

// replayRoom is what opening the TSDB may take beside what its logs hold: files of chunks are made 128 KiB large, several at once.
const replayRoom = 1 << 20

// hasRoomToReplay checks that opening does not fill the disk: the TSDB puts into files what it replays, and panics when it cannot. The
// reserve is the most that is wanted, so that a disk on which nothing is taken any more can be read.
func (s *Store) hasRoomToReplay() error {
	err := os.MkdirAll(s.cfg.Dir, 0o750)
	var d Disk
	if err == nil {
		d, err = s.Disk()
	}
	if err != nil {
		return nil //nolint:nilerr // opening tells what is wrong: it is not for want of room
	}
	if need := min(d.Reserve, replayRoom+logBytes(s.cfg.Dir)); d.Free < need {
		return fmt.Errorf("%w: %d KiB free in %s, wanted %d KiB to replay the log", errNoRoom, d.Free>>10, d.Dir, need>>10)
	}
	return nil
}

// hasRoom checks that the reserve is free.
func (s *Store) hasRoom() error {
	if s.cfg.ReserveBytes < 0 {
		return nil
	}
	d, err := s.Disk()
	if err != nil {
		return err
	}
	if d.Free < d.Reserve {
		return fmt.Errorf("%w: %d MiB free in %s, wanted %d MiB", errNoRoom, d.Free>>20, d.Dir, d.Reserve>>20)
	}
	return nil
}
