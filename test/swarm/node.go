package swarm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/edge/outbox"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// node is one simulated node agent: a link, an outbox and, once it was given a command, an engine.
type node struct {
	swarm *Swarm
	index int
	id    string
	cert  tls.Certificate

	clock  *agent.Clock // its own, as far as it is told the time
	outbox *outbox.Outbox
	link   atomic.Pointer[mqtt.Link]
	past   atomic.Pointer[mqtt.Link] // the last one that is over: it is in the stats
	epoch  atomic.Uint64
	up     atomic.Bool
	asleep atomic.Bool // says that it sleeps when it hangs up, and measures nothing
	wire   atomic.Pointer[line]

	mu      sync.Mutex
	hangup  context.CancelFunc // ends the current link with a goodbye
	away    time.Duration      // how long to stay away after it; below zero: until called back
	back    chan struct{}      // holds one
	engine  *command.Engine
	desired api.Revision
	heard   time.Time // when desired came
	report  *api.Reported
	runs    runs
	rows    []int64 // times of the rows of the batch that is not full, milliseconds since 1970
	last    int64   // time of the last row made
	flight  []flight
	truth   account.Telemetry
}

// flight is a batch that was sent and is not acknowledged.
type flight struct {
	epoch, seq uint64
	rows       []int32
	sent       time.Time
}

// prepare opens what a node needs; its goroutines belong to the swarm.
func (n *node) prepare(ctx context.Context) error {
	s := n.swarm
	o := s.cfg.Profile.Outbox
	n.epoch.Store(uint64(time.Now().UnixMilli())) // above those of an earlier run with the same certificate
	n.clock = agent.NewClock(agent.BuildTime(), agent.ClockSource{})
	cfg := outbox.Config{Epoch: n.epoch.Load(), Boot: s.boot, MaxBytes: o.MaxBytes, HotBytes: o.MemoryBytes, AckTimeout: o.AckTimeout,
		ReplayBytesPerSecond: o.ReplayBytesPerSecond, Clock: n.clock, Timed: n.clock.Told, Sender: n, Log: s.quiet,
		Volatile: o.Store == "memory"}
	if !cfg.Volatile {
		cfg.Dir = filepath.Join(s.dir, n.id)
		cfg.RuntimeDir = filepath.Join(cfg.Dir, "run")
	}
	var err error
	if n.outbox, err = outbox.Open(cfg); err != nil {
		return fmt.Errorf("start %s: %w", n.id, err)
	}
	n.truth.Series = s.cfg.Profile.Series
	n.back = make(chan struct{}, 1)
	s.work.Go(func() { s.note(n.outbox.Run(ctx)) })
	s.work.Go(func() { s.note(n.live(ctx)) })
	return nil
}

// live keeps the node connected until ctx ends, but for the times in which it is to be away.
func (n *node) live(ctx context.Context) error {
	for ctx.Err() == nil {
		link, err := n.newLink(ctx)
		if err != nil {
			return err
		}
		lctx, cancel := context.WithCancel(ctx)
		n.mu.Lock()
		away := n.away
		n.hangup = cancel
		n.mu.Unlock()
		if away == 0 {
			n.link.Store(link)
			err = link.Run(lctx)
			n.swarm.stats.linked(link.Status())
			n.past.Store(link)
		} else {
			n.stayAway(ctx, away)
		}
		cancel()
		if err != nil {
			return err
		}
		n.mu.Lock()
		if away != 0 && n.away == away {
			n.away = 0
		}
		n.mu.Unlock()
	}
	return nil
}

// stayAway waits for d, or, below zero, for back.
func (n *node) stayAway(ctx context.Context, d time.Duration) {
	if d >= 0 {
		agent.Wait(ctx, d)
		n.asleep.Store(false)
		return
	}
	select {
	case <-ctx.Done():
	case <-n.back:
	}
}

// leave has the node say goodbye and stay away.
func (n *node) leave(away time.Duration) {
	select {
	case <-n.back: // an old call
	default:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = away
	if n.hangup != nil {
		n.hangup()
	}
}

// comeBack ends an absence without an end.
func (n *node) comeBack() {
	select {
	case n.back <- struct{}{}:
	default: // it is called already
	}
}

// cut resets the connection, if there is one.
func (n *node) cut() {
	if l := n.wire.Load(); l != nil && n.up.Load() {
		l.reset()
	}
}

func (n *node) newLink(ctx context.Context) (*mqtt.Link, error) {
	s, t := n.swarm, n.swarm.topics
	var subs []mqtt.Subscription
	for _, h := range []struct {
		kind mqtt.Kind
		take mqtt.Handler
	}{{mqtt.KindDesired, n.onDesired}, {mqtt.KindCmd, n.onCommand}, {mqtt.KindAck, n.onAck}} {
		subs = append(subs, mqtt.Subscription{Filter: t.Filter(h.kind, n.id), Handler: h.take})
	}
	l := s.cfg.Profile.Link
	return mqtt.NewLink(mqtt.LinkConfig{Servers: s.servers, ClientID: n.id, KeepAlive: l.KeepAlive, BackoffMax: l.BackoffMax,
		StableAfter: l.StableAfter, Subscriptions: subs, Begin: n.begin, Announce: n.announce, Goodbye: n.goodbye, OnUp: n.onUp, OnDown: n.onDown,
		Queue: 64, Window: 16, Log: s.quiet,
		TLS: func(host string) (*tls.Config, error) { return identity.BrokerTLS(n.cert, s.pool, host, s.clock), nil },
		Dial: func(dctx context.Context, network, addr string) (net.Conn, error) {
			return n.dial(ctx, dctx, network, addr)
		}})
}

// dial connects within dctx; the line lives until ctx ends.
func (n *node) dial(ctx, dctx context.Context, network, addr string) (net.Conn, error) {
	if err := n.swarm.permitted(addr); err != nil {
		return nil, err
	}
	var conn net.Conn
	var err error
	if by := n.swarm.cfg.Dial; by != nil {
		conn, err = by(dctx, n.index, network, addr)
	} else {
		conn, err = (&net.Dialer{LocalAddr: n.swarm.cfg.source(n.index, addr)}).DialContext(dctx, network, addr)
	}
	if err != nil {
		return nil, err
	}
	var slow *Slow
	if n.share(2) < n.swarm.cfg.Profile.Slow.Share {
		slow = &n.swarm.cfg.Profile.Slow
	}
	l, err := newLine(ctx, conn, slow)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	n.wire.Store(l)
	return l, nil
}

// share spreads the nodes evenly over 0 to 1, by one of several independent rules: the same node is slow in every run.
func (n *node) share(rule uint64) float64 {
	x := (uint64(n.index)+1)*0x9E3779B97F4A7C15 + rule*0xBF58476D1CE4E5B9
	x ^= x >> 31
	x *= 0x94D049BB133111EB
	x ^= x >> 29
	return float64(x>>11) / (1 << 53)
}

// measure makes a row. A batch that is full goes into the outbox.
func (n *node) measure(now time.Time) {
	if n.asleep.Load() && !n.up.Load() || n.swarm.hushed.Load() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if row := n.truth.Rows() + len(n.rows); row >= account.MaxRows {
		return
	}
	n.last = max(now.UnixMilli(), n.last+1) // a store has room for one row a millisecond, and turns may come late and close together
	n.rows = append(n.rows, n.last)
	if len(n.rows) == n.swarm.cfg.Profile.BatchRows {
		n.put()
	}
}

// flush puts the batch that is not full into the outbox.
func (n *node) flush() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.rows) > 0 {
		n.put()
	}
}

// put makes a batch of the rows. mu is held.
func (n *node) put() {
	s := n.swarm
	_, quality := n.clock.Read()
	b := api.Batch{T0: api.Millis(n.rows[0]), TimeQuality: quality, Series: s.series,
		Mono: n.clock.Boot().Milliseconds() - (time.Now().UnixMilli() - n.rows[0]), Rows: make([]api.Row, len(n.rows))}
	first := n.truth.Rows()
	for i, at := range n.rows {
		b.Rows[i] = api.Row{OffsetMillis: at - n.rows[0], Values: make([]float64, len(s.series))}
		for j := range s.series {
			b.Rows[i].Values[j] = account.Value(n.index, j, first+i)
		}
	}
	n.truth.Made(n.rows)
	n.rows = n.rows[:0]
	s.stats.made.Add(uint64(b.Samples()))
	if err := n.outbox.PutBatch(&b); err != nil { // the outbox has counted it
		s.stats.putFailed.Add(1)
	}
}

// name is the id of node i of a swarm.
func name(prefix string, i int) string {
	digits := strconv.Itoa(i)
	for len(digits) < 5 {
		digits = "0" + digits
	}
	return prefix + "-" + digits
}
