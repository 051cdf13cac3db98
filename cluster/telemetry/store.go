package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// ErrUnavailable is returned while the store cannot be used: it is not open yet, closed, or its disk fails or is full.
// Nothing was stored; trying again later makes sense.
var ErrUnavailable = errors.New("telemetry store is unavailable")

// Store keeps samples. Its methods are safe for concurrent use.
type Store struct {
	cfg     Config
	log     logger
	metrics *metrics
	nodes   *nodeTable
	parser  parser.Parser
	engine  *promql.Engine
	gate    chan struct{} // a token per running query
	remotes []*remote

	queue    chan *request
	requests sync.Pool
	ready    chan struct{}
	stopped  chan struct{}

	mu      sync.RWMutex // whoever reads holds it shared for as long as it uses session's db
	session *session     // nil while the disk fails

	committed atomic.Uint64 // position of the last commit
	synced    syncPoint

	// Of the ingest goroutine, and of Run before and after it:
	opened uint64 // openings so far
	room   error  // the last look at the disk's free space
	roomAt time.Time
}

// New returns a store that Run opens.
func New(cfg Config) (*Store, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	s := &Store{
		cfg: cfg, log: logger{cfg.Log}, metrics: newMetrics(), nodes: newNodeTable(),
		parser: parser.NewParser(parser.Options{}), gate: make(chan struct{}, cfg.Query.Concurrent),
		queue: make(chan *request, cfg.QueueBatches), ready: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.requests.New = func() any { return &request{done: make(chan struct{}, 1)} }
	s.synced.init()
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger: s.log.quiet(), MaxSamples: cfg.Query.MaxSamples, Timeout: cfg.Query.Timeout, LookbackDelta: lookback,
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: s.parser,
		NoStepSubqueryIntervalFn: func(int64) int64 { return defaultSubqueryStep.Milliseconds() },
	})
	for _, r := range cfg.Remotes {
		s.remotes = append(s.remotes, newRemote(r, s))
	}
	return s, nil
}

// Ready is closed when the store is open. Append waits for it by itself.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// Run opens the store, serves it until ctx ends, and closes it. An fsync that fails ends it with an error: what was in
// flight then can never be trusted to be on the disk (the kernel forgets what it could not write), so it must not be
// acknowledged; the nodes send it again to the next Run. On a full disk it opens the store as soon as there is room.
func (s *Store) Run(ctx context.Context) error {
	defer close(s.stopped)
	full := s.hasRoomToReplay()
	if full == nil {
		ses, err := s.open()
		if err != nil {
			return fmt.Errorf("open telemetry store: %w", err)
		}
		s.use(ses)
	}
	if err := s.removeStrangers(); err != nil {
		return errors.Join(err, s.discard())
	}
	close(s.ready)
	g, work := errgroup.WithContext(ctx)
	g.Go(func() error {
		if full != nil {
			s.openWhenRoom(work, full)
		}
		s.ingest(work)
		return nil
	})
	g.Go(func() error { return s.syncLoop(work) })
	for _, r := range s.remotes {
		g.Go(func() error { return r.run(work) })
	}
	err := g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	if err == nil {
		err = s.syncNow()
	}
	return errors.Join(err, s.discard())
}

// session is one opening of the TSDB.
type session struct {
	db        *tsdb.DB
	number    uint64          // tells which opening a series reference belongs to
	wblFailed func() float64  // failed writes of out-of-order samples: Commit does not report them
	ctx       context.Context // ends when the session is about to be closed
	cancel    context.CancelFunc
}

func (s *Store) use(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = ses
}

// discard ends the queries that run on the session, then closes it.
func (s *Store) discard() error {
	s.mu.RLock()
	ses := s.session
	s.mu.RUnlock()
	if ses == nil {
		return nil
	}
	ses.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = nil
	if err := ses.db.Close(); err != nil {
		return fmt.Errorf("close telemetry store: %w", err)
	}
	return nil
}

// acquire returns the open TSDB and a context that also ends when the TSDB must be closed. release must be called when
// neither the TSDB nor anything read from it is used any more.
func (s *Store) acquire(ctx context.Context) (db *tsdb.DB, c context.Context, release func(), err error) {
	s.mu.RLock()
	if s.session == nil {
		s.mu.RUnlock()
		return nil, nil, nil, ErrUnavailable
	}
	c, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.session.ctx, cancel)
	return s.session.db, c, func() { stop(); cancel(); s.mu.RUnlock() }, nil
}

// DeleteNode removes everything that was stored of a node. The space comes back with the next compactions.
func (s *Store) DeleteNode(ctx context.Context, node string) error {
	if err := api.ValidID("node", node); err != nil {
		return fmt.Errorf("delete telemetry: %w", err)
	}
	db, ctx, release, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	s.nodes.drop(node)
	m := labels.MustNewMatcher(labels.MatchEqual, labelNode, node)
	if err := db.Delete(ctx, minTime, maxTime, m); err != nil {
		return fmt.Errorf("delete telemetry of %s: %w", node, err)
	}
	return nil
}

// Rejected tells how many samples of a node's good batches were not stored, and why, since it was first heard of in
// this process or after hours of silence.
func (s *Store) Rejected(node string) map[Reason]uint64 { return s.nodes.rejected(node) }

// reopen closes a session that failed and opens the TSDB again as soon as the disk has room: a write that failed half
// way leaves a log that only opening mends. It returns when that worked or ctx ended.
func (s *Store) reopen(ctx context.Context, cause error) {
	s.log.Error("telemetry store failed, opening it anew", agent.KeyErr, cause)
	s.metrics.reopened.Inc()
	if err := s.discard(); err != nil {
		s.log.Warn("telemetry store did not close cleanly", agent.KeyErr, err)
	}
	s.openWhenRoom(ctx, cause)
}

// openWhenRoom opens the TSDB as soon as the disk has room, and refuses batches until then. It returns when that worked or ctx ended.
func (s *Store) openWhenRoom(ctx context.Context, cause error) {
	wait := agent.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second}
	var last string
	for {
		timer := time.NewTimer(wait.Next())
		if !s.refuseUntil(ctx, timer.C, cause) {
			timer.Stop()
			return
		}
		err := s.hasRoom()
		if err == nil {
			var ses *session
			if ses, err = s.open(); err == nil {
				s.use(ses)
				s.log.Info("telemetry store is open again")
				return
			}
		}
		cause = err
		if msg := err.Error(); msg != last {
			last = msg
			s.log.Warn("telemetry store stays closed", agent.KeyErr, err)
		}
	}
}

// refuseUntil answers waiting batches with an error until the timer fires, and reports whether ctx still lives.
func (s *Store) refuseUntil(ctx context.Context, timer <-chan time.Time, cause error) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer:
			return true
		case r := <-s.queue:
			r.finish(0, fmt.Errorf("%w: %w", ErrUnavailable, cause))
		}
	}
}
