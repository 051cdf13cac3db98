package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
	"golang.org/x/time/rate"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/mqtt"
)

// listener admits connections: a token bucket before the TLS handshake, a bounded number of handshakes at once, and an
// identity for each. It implements mochi's Listener.
type listener struct {
	broker *Broker
	inner  net.Listener
	tls    *tls.Config
	bucket *rate.Limiter
	slots  chan struct{}
	open   atomic.Int64 // connections, from accept to end
	crew   *crew

	ctx    context.Context // ends when the broker stops
	cancel context.CancelFunc
	wg     sync.WaitGroup // connections
	ended  chan struct{}  // closed when the last of them is over, after stop
}

func listen(ctx context.Context, b *Broker) (*listener, error) {
	inner, err := (&net.ListenConfig{}).Listen(ctx, "tcp", b.cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for MQTT: %w", err)
	}
	lctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	perSecond := b.cfg.Limits.AcceptPerSecond
	return &listener{broker: b, inner: inner, tls: enforce(b.cfg.TLS), ctx: lctx, cancel: cancel,
		bucket: rate.NewLimiter(rate.Limit(perSecond), perSecond), slots: make(chan struct{}, b.cfg.Limits.Handshakes),
		crew: newCrew(b.cfg.Limits.BufferBytes, lctx.Done()), ended: make(chan struct{})}, nil
}

// enforce returns cfg with what is not for configuration to decide, in each of its hot-reloaded forms.
func enforce(cfg *tls.Config) *tls.Config {
	strict := func(c *tls.Config) *tls.Config {
		c = c.Clone()
		c.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
		c.ClientAuth = tls.RequireAndVerifyClientCert
		c.NextProtos = []string{"mqtt"} // of use behind a port shared by ALPN; not asked of clients that know none
		return c
	}
	out := strict(cfg)
	if cfg.GetConfigForClient == nil {
		return out
	}
	var (
		mu       sync.Mutex
		hot, was *tls.Config // hot is strict(was), one for all connections: each keeps its own as long as it lives
	)
	out.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := cfg.GetConfigForClient(hello)
		if err != nil {
			return nil, err
		}
		if c == nil {
			c = cfg
		}
		if c.ClientCAs == nil {
			return nil, errors.New("TLS has no client CAs")
		}
		mu.Lock()
		defer mu.Unlock()
		if hot == nil || was != c {
			hot, was = strict(c), c
		}
		return hot, nil
	}
	return out
}

// Init has nothing to do: listen has opened the port.
func (l *listener) Init(*slog.Logger) error { return nil }

// ID names the listener.
func (l *listener) ID() string { return "tls" }

// Address is where it listens.
func (l *listener) Address() string { return l.inner.Addr().String() }

// Protocol is for mochi's log.
func (l *listener) Protocol() string { return "mqtts" }

// Serve accepts until stop, and then waits for the connections. What mochi would do with one is session's.
func (l *listener) Serve(listeners.EstablishFn) {
	defer close(l.ended)
	defer l.crew.hands.Wait()
	defer l.wg.Wait()
	backoff := agent.Backoff{Min: 10 * time.Millisecond, Max: time.Second}
	for {
		conn, err := l.inner.Accept()
		if l.ctx.Err() != nil {
			if err == nil {
				_ = conn.Close() // too late
			}
			return
		}
		if err != nil { // out of descriptors, most likely: it passes
			l.broker.lines.warn("accept failed", agent.KeyErr, err)
			agent.Wait(l.ctx, backoff.Next())
			continue
		}
		backoff.Reset()
		wait, err := l.turn()
		if err != nil {
			l.refuse(conn, err)
			_ = conn.Close() // refused: nothing was written
			continue
		}
		l.open.Add(1)
		l.wg.Go(func() { l.serve(conn, wait) })
	}
}

// turn returns how long a new connection has to wait, or why it cannot stay. A node that is sent away comes back with
// its backoff, which spreads the storm.
func (l *listener) turn() (time.Duration, error) {
	limits := &l.broker.cfg.Limits
	if l.open.Load() >= int64(limits.Connections) {
		return 0, &refusal{"connections", fmt.Errorf("there are %d", limits.Connections)}
	}
	r := l.bucket.Reserve()
	wait := r.Delay()
	if wait > limits.AcceptPatience {
		r.Cancel()
		return 0, &refusal{"accept rate", fmt.Errorf("would have to wait %s", wait.Round(time.Millisecond))}
	}
	return wait, nil
}

// stop ends the accepting and the handshakes. Sessions are the broker's to end.
func (l *listener) stop() {
	l.cancel()
	_ = l.inner.Close() // ends Accept
}

// Close is mochi's way to end the sessions, which the broker has done by then: mochi's own would lock up when one of
// them ends at that moment (its GetByListener takes a read lock twice).
func (l *listener) Close(listeners.CloseFn) { l.stop() }

// refusal is an error with a short reason for the counters.
type refusal struct {
	reason string
	err    error
}

func (r *refusal) Error() string { return r.reason + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func (l *listener) refuse(conn net.Conn, err error) {
	if l.ctx.Err() != nil {
		return
	}
	reason := "other"
	if r, ok := errors.AsType[*refusal](err); ok {
		reason = r.reason
	}
	l.broker.count.refuse(reason)
	if errors.Is(err, io.EOF) { // a port check: connected and left
		l.broker.cfg.Log.Debug("connection left", agent.KeyAddr, conn.RemoteAddr().String(), agent.KeyErr, err)
		return
	}
	l.broker.lines.warn("connection refused", agent.KeyAddr, conn.RemoteAddr().String(), agent.KeyErr, err)
}

// serve waits for its turn, finds out who is there, and has mochi speak with them until the session is over. Its
// goroutine is the one that a connection has, so it leaves to the crew what takes more than a little stack.
func (l *listener) serve(conn net.Conn, wait time.Duration) {
	defer l.open.Add(-1)
	defer conn.Close()
	if wait > 0 && !agent.Wait(l.ctx, wait) {
		return
	}
	var p *peer
	l.crew.do(func() { p = l.welcome(conn) })
	if p == nil {
		return
	}
	defer l.broker.dismiss(p)
	if l.ctx.Err() != nil { // stop may have looked before p was there
		p.end(ErrStopping)
	}
	// Until CONNECT there is no keepalive to limit the wait [MQTT-3.1.0-1].
	if p.SetDeadline(time.Now().Add(l.broker.cfg.Limits.HandshakeTimeout)) != nil {
		return
	}
	s, over := l.attach(p), false
	use := func(buf []byte) { over = l.turnOf(s, buf) }
	turn := func() { l.crew.lend(use) }
	for l.crew.do(turn); !over; l.crew.do(turn) { // at first unasked: CONNECT may have come with the end of the handshake
		p.socket.await()
	}
}

// turnOf processes what the client of s has sent, and reports whether the session is over.
func (l *listener) turnOf(s *session, buf []byte) bool {
	err := s.converse(buf)
	if err == errNothing {
		return false
	}
	s.leave(err)
	l.broker.depart(s.peer, err)
	return true
}

// welcome shakes hands and finds out who is there. It returns nil for somebody that cannot stay.
func (l *listener) welcome(conn net.Conn) *peer {
	p, err := l.handshake(conn)
	if err != nil {
		l.refuse(conn, err)
		return nil
	}
	if err := l.admit(p); err != nil {
		l.refuse(conn, err)
		if p.denied == nil {
			p.end(err)
			p.workers.Wait()
			return nil
		}
	}
	return p
}

func (l *listener) handshake(conn net.Conn) (*peer, error) {
	ctx, cancel := context.WithTimeout(l.ctx, l.broker.cfg.Limits.HandshakeTimeout)
	defer cancel()
	s, err := newSocket(conn)
	if err == nil {
		err = s.SetNoDelay(true) // unset, it costs 40 ms a round trip
	}
	if err != nil {
		return nil, &refusal{"socket", err}
	}
	t := &turn{Conn: s, listener: l}
	defer t.release()
	tconn := tls.Server(t, l.tls)
	err = tconn.HandshakeContext(ctx)
	if t.over = true; t.refused != nil {
		return nil, t.refused
	}
	if err != nil {
		return nil, &refusal{"handshake", err}
	}
	return newPeer(l.broker, tconn, s), nil
}

// admit finds out who p is. A client that Authorize refuses stays until CONNECT, to be told so in MQTT.
func (l *listener) admit(p *peer) error {
	cert := p.ConnectionState().PeerCertificates[0]
	id, err := mqtt.IdentityOf(cert)
	if err != nil {
		return &refusal{"identity", err}
	}
	p.id, p.notAfter = id, cert.NotAfter
	// Kick has to find p before Authorize is asked, or a revocation could fall between the two.
	if err := l.broker.register(p); err != nil {
		return err
	}
	id, err = l.broker.cfg.Authorize(cert)
	switch {
	case err != nil:
		p.denied = err
		return &refusal{"not authorized", fmt.Errorf("%s: %w", p.id.CommonName(), err)}
	case id.CommonName() != p.id.CommonName() || id.Cluster != l.broker.cfg.Topics.Cluster:
		p.denied = fmt.Errorf("%s of cluster %q; wanted one of %q", id.CommonName(), id.Cluster, l.broker.cfg.Topics.Cluster)
		return &refusal{"not authorized", p.denied}
	}
	l.broker.mu.Lock()
	p.id = id
	l.broker.mu.Unlock()
	l.broker.count.accepted.Add(1)
	return nil
}
