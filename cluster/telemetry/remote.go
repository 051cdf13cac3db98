package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/skerry-edge/skerry/agent"
)

// remote copies everything that is stored to one receiver. It reads the write-ahead log, since only the log has every
// sample, late ones too, in the order of their coming. What it has not sent yet is kept beyond the TSDB's own truncation
// by hard links (see mirror), and how far it got is written down after each request, so neither an outage nor a restart
// leaves a gap. A request that was cut off in the middle is sent again: a receiver gets each sample at least once.
type remote struct {
	cfg    Remote
	store  *Store
	log    logger
	mirror mirror
	sender sender
	woken  chan struct{}
	fault  atomic.Pointer[RemoteFault] // nil while the receiver takes what it is sent

	at      position
	series  refs
	pending []record.RefSample // read, not sent
	flushed position           // what the receiver has got
	pruned  int                // the last checkpoint that stands for what was sent

	dropping bool // the queue is full: the rest of this segment is counted and not sent
	scratch  []record.RefSample
	request  writeRequest
}

// position is a place in the log: so many records of a segment are done.
type position struct {
	Segment int `json:"segment"`
	Records int `json:"records"`
}

func newRemote(cfg Remote, s *Store) *remote {
	dir := filepath.Join(s.cfg.Dir, "remote", cfg.Name)
	transport := http.DefaultTransport.(*http.Transport).Clone() // never anything else, unless a program replaces it
	transport.TLSClientConfig = cfg.TLS
	transport.MaxIdleConnsPerHost = 1
	return &remote{
		cfg: cfg, store: s, log: logger{s.cfg.Log.With(agent.KeyURL, cfg.URL)},
		mirror: mirror{from: filepath.Join(s.cfg.Dir, "wal"), dir: dir}, woken: make(chan struct{}, 1),
		sender: sender{cfg: cfg, client: &http.Client{Transport: transport, Timeout: cfg.Timeout}},
		series: refs{}, pruned: -1,
	}
}

// removeStrangers deletes the queues of receivers that are no longer configured: their links would hold space for ever.
func (s *Store) removeStrangers() error {
	dir := filepath.Join(s.cfg.Dir, "remote")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list remote write queues: %w", err)
	}
	for _, e := range entries {
		if slices.ContainsFunc(s.cfg.Remotes, func(r Remote) bool { return r.Name == e.Name() }) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove remote write queue: %w", err)
		}
	}
	return nil
}

func (r *remote) wake() { signal(r.woken) }

// mirrorEvery is how often the log is looked at for new segments while nothing is stored.
const mirrorEvery = 15 * time.Second

// run copies until ctx ends. A disk that fails is tried again, like a receiver.
func (r *remote) run(ctx context.Context) error {
	defer r.sender.client.CloseIdleConnections()
	wait := agent.Backoff{Min: time.Second, Max: time.Minute}
	for {
		err := r.follow(ctx, &wait)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errLogAnew) {
			err = errors.Join(err, r.anew())
		}
		r.failed(err)
		r.log.Error("remote write stopped, beginning again", agent.KeyErr, err)
		if !agent.Wait(ctx, wait.Next()) {
			return nil
		}
	}
}

// follow reads the log from where the receiver is, and keeps at its end.
func (r *remote) follow(ctx context.Context, wait *agent.Backoff) error {
	if err := r.resume(); err != nil {
		return err
	}
	tick := time.NewTicker(mirrorEvery)
	defer tick.Stop()
	var tail *tail
	defer func() { tail.close() }()
	for {
		if err := r.mirror.refresh(); err != nil {
			return err
		}
		var err error
		if tail, err = r.advance(ctx, tail); err != nil {
			return err
		}
		wait.Reset()
		if err := r.prune(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.woken:
		case <-tick.C:
		}
	}
}

// resume finds the position, and the series that were named before it.
func (r *remote) resume() error {
	if err := os.MkdirAll(r.mirror.dir, 0o750); err != nil {
		return fmt.Errorf("create queue: %w", err)
	}
	if err := r.mirror.refresh(); err != nil {
		return err
	}
	have, err := r.mirror.segments()
	if err != nil {
		return err
	}
	r.at = position{}
	raw, err := os.ReadFile(r.positionPath())
	switch {
	case err == nil:
		if json.Unmarshal(raw, &r.at) != nil || r.at.Segment < 0 || r.at.Records < 0 {
			r.at = position{} // torn by a power cut: everything that is still there is sent again
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read position: %w", err)
	}
	if len(have) > 0 && have[len(have)-1] < r.at.Segment {
		r.at = position{} // the log began anew
	}
	r.flushed, r.series, r.pending = r.at, refs{}, r.pending[:0]
	if len(have) == 0 {
		return nil
	}
	if first := have[0]; first > r.at.Segment {
		if len(raw) > 0 && r.at != (position{}) {
			r.gap(r.at.Segment)
		}
		r.at = position{Segment: first}
	}
	return r.learn(have)
}

// learn reads the series from the checkpoints and from the segments before the position.
func (r *remote) learn(have []int) error {
	numbers, err := checkpoints(r.mirror.dir)
	if err != nil {
		return err
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		if err := r.series.readCheckpoint(wlog.CheckpointDir(r.mirror.dir, n), n); err != nil {
			r.log.Warn("series of the remote write queue are incomplete", agent.KeyErr, err)
		}
	}
	for _, n := range have {
		if n >= r.at.Segment {
			break
		}
		if err := r.series.readSegment(r.mirror.path(n), n); err != nil {
			r.log.Warn("series of the remote write queue are incomplete", agent.KeyErr, err)
		}
	}
	return nil
}

func (r *remote) gap(segment int) {
	r.store.metrics.remoteGaps.WithLabelValues(r.cfg.Name).Inc()
	r.log.Warn("remote write lost a part of the log", agent.KeySeq, segment)
}

// save writes the position down. It need not be on the disk: an older one only sends a little again.
func (r *remote) save() error {
	raw, err := json.Marshal(r.flushed)
	if err != nil {
		return fmt.Errorf("write position: %w", err)
	}
	tmp := r.positionPath() + ".tmp"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("write position: %w", err)
	}
	if err := os.Rename(tmp, r.positionPath()); err != nil {
		return fmt.Errorf("write position: %w", err)
	}
	return nil
}

func (r *remote) positionPath() string { return filepath.Join(r.mirror.dir, "position.json") }

// anew gives up what is queued of a log that no longer exists.
func (r *remote) anew() error {
	r.gap(r.at.Segment)
	if err := os.RemoveAll(r.mirror.dir); err != nil {
		return fmt.Errorf("clear remote write queue: %w", err)
	}
	return nil
}
