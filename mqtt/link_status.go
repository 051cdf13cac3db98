package mqtt

import (
	"context"
	"sync/atomic"
	"time"
)

// LinkStatus is how a link stands. The counters run since NewLink.
type LinkStatus struct {
	Connected  bool      // and announced
	Since      time.Time // of Connected's last change; zero before the first
	Server     string    // the current or last tried
	LastError  string    // why the last attempt failed or the last session ended; kept while connected
	NextTry    time.Time // zero unless waiting to try again
	Attempts   uint64    // connects tried
	Reconnects uint64    // times the link came up after the first
	BytesIn    uint64    // on the wire, below TLS
	BytesOut   uint64
	Published  uint64 // acknowledged by the broker
	Received   uint64
	Discarded  uint64 // received, but no handler wanted or could decode it
	Refused    uint64 // handler errors; each cost a connection
	Overflows  uint64 // full queues; each cost a connection
}

// counters are the moving parts of a LinkStatus.
type counters struct {
	attempts, ups, in, out, published, received, discarded, refused, overflows atomic.Uint64
}

// Status returns how the link stands.
func (l *Link) Status() LinkStatus {
	l.mu.Lock()
	st := l.state
	l.mu.Unlock()
	c := &l.count
	st.Attempts, st.Published, st.Received = c.attempts.Load(), c.published.Load(), c.received.Load()
	st.BytesIn, st.BytesOut = c.in.Load(), c.out.Load()
	st.Discarded, st.Refused, st.Overflows = c.discarded.Load(), c.refused.Load(), c.overflows.Load()
	if ups := c.ups.Load(); ups > 1 {
		st.Reconnects = ups - 1
	}
	return st
}

// AwaitUp waits until the link is up: connected, subscribed and announced.
func (l *Link) AwaitUp(ctx context.Context) error {
	select {
	case <-l.Up():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Up is closed while the link is up. One that is not will be when the link comes up next.
func (l *Link) Up() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

func (l *Link) setTrying(s server) {
	l.count.attempts.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Server, l.state.NextTry = s.name, time.Time{}
}

func (l *Link) setUp(s *Session) {
	l.count.ups.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
	l.state.Connected, l.state.Since = true, time.Now()
	close(l.up)
}

// setDown reports whether the link was up.
func (l *Link) setDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		return false
	}
	l.session = nil
	l.state.Connected, l.state.Since = false, time.Now()
	l.up = make(chan struct{})
	return true
}

func (l *Link) setFailed(err error, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.LastError, l.state.NextTry = err.Error(), time.Now().Add(wait)
}
