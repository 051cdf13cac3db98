package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// maxPacket bounds a packet of the broker. Brokers of others may take longer messages than ours (MaxPacketBytes), and to
// refuse one costs the connection, so it is generous: the codec refuses the payload by itself.
const maxPacket = 256 << 10

// readBuffer holds the small pieces of a packet's header, and most packets of ours whole; what is longer is read past it.
const readBuffer = 512

// wire is the connection below the packets. It sees to its health: every write has a deadline, silence is an end, no
// packet is longer than maxPacket, and once dropped every call returns the reason.
type wire struct {
	net.Conn                // TLS or plain
	raw       net.Conn      // the socket below
	in        *bufio.Reader // a packet is read in four small pieces
	guard     guard
	idle      time.Duration // longest silence of the broker
	connected atomic.Bool   // the CONNACK is in: from now on idle applies
	cause     atomic.Pointer[error]
	born      time.Time
	sent, got atomic.Int64 // when something last was, nanoseconds after born: a clock that is set does not matter
}

// counted counts what passes a socket.
type counted struct {
	net.Conn
	count *counters
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.count.in.Add(uint64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.count.out.Add(uint64(n))
	return n, err
}

// dial opens the connection to srv: TCP with TCP_NODELAY, then TLS where the scheme says so.
func (l *Link) dial(ctx context.Context, srv server) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.ConnectTimeout)
	defer cancel()
	raw, err := l.cfg.Dial(ctx, "tcp", srv.addr)
	if err != nil {
		return nil, err
	}
	if tcp, ok := raw.(interface{ SetNoDelay(bool) error }); ok {
		if err := tcp.SetNoDelay(true); err != nil {
			return nil, errors.Join(fmt.Errorf("set TCP_NODELAY: %w", err), raw.Close())
		}
	}
	var conn net.Conn = &counted{raw, &l.count}
	if srv.tls {
		secure, err := l.handshake(ctx, srv, conn)
		if err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		conn = secure
	}
	return &wire{
		Conn: conn, raw: raw, born: time.Now(), in: bufio.NewReaderSize(conn, readBuffer), idle: l.cfg.Patience,
	}, nil
}

func (l *Link) handshake(ctx context.Context, srv server, conn net.Conn) (net.Conn, error) {
	cfg, err := l.cfg.TLS(srv.host)
	if err != nil {
		return nil, fmt.Errorf("load TLS configuration: %w", err)
	}
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = srv.host
	}
	if len(cfg.NextProtos) == 0 {
		cfg.NextProtos = []string{"mqtt"} // IANA's ALPN protocol id
	}
	l.tickets.use(cfg)
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		l.tickets.failed(err)
		return nil, fmt.Errorf("TLS: %w", sentAway(err))
	}
	return secure, nil
}

// Read reads, waiting at most idle once connected.
func (w *wire) Read(p []byte) (int, error) {
	if w.connected.Load() && w.in.Buffered() == 0 {
		if err := w.Conn.SetReadDeadline(time.Now().Add(w.idle)); err != nil {
			return 0, w.why(err)
		}
	}
	n, err := w.in.Read(p)
	w.got.Store(int64(time.Since(w.born)))
	if fault := w.guard.feed(p[:n]); fault != nil {
		w.drop(fault)
		return 0, fault
	}
	return n, w.why(err)
}

// Write writes, waiting at most idle.
func (w *wire) Write(p []byte) (int, error) {
	if w.connected.Load() {
		if err := w.Conn.SetWriteDeadline(time.Now().Add(w.idle)); err != nil {
			return 0, w.why(err)
		}
	}
	w.sent.Store(int64(time.Since(w.born)))
	n, err := w.Conn.Write(p)
	return n, w.why(err)
}

// silent is how long one of the two sides has said nothing.
func (w *wire) silent() time.Duration {
	return time.Since(w.born) - time.Duration(min(w.sent.Load(), w.got.Load()))
}

// drop ends the connection at once, without a word to the broker: it will publish the will.
func (w *wire) drop(cause error) {
	w.cause.CompareAndSwap(nil, &cause)
	w.raw.Close() // not the TLS layer, which would wait to say goodbye
}

// why tells what err means.
func (w *wire) why(err error) error {
	if err == nil {
		return nil
	}
	if cause := w.cause.Load(); cause != nil {
		return *cause
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && w.connected.Load():
		return fmt.Errorf("nothing passed for %s", w.idle)
	case errors.Is(err, net.ErrClosed):
		return errors.New("connection is closed")
	}
	return err
}

// guard follows the packets of the broker and refuses what would hurt: the decoder allocates whatever length a header
// claims, and a SUBACK has to have a code for each subscription.
type guard struct {
	subscriptions atomic.Int32 // of the SUBSCRIBE that is under way
	kind          byte         // packet type and flags, 0 before a packet
	length, shift int          // remaining length so far [MQTT-2.2.3]
	body          int          // bytes of the body still to come
}

func (g *guard) feed(p []byte) error {
	for len(p) > 0 {
		switch {
		case g.body > 0:
			n := min(g.body, len(p))
			g.body -= n
			p = p[n:]
		case g.kind == 0:
			g.kind, g.length, g.shift = p[0], 0, 0
			if p[0]>>4 == 0 {
				return fmt.Errorf("broker sent a packet of reserved type, first byte %#x", p[0])
			}
			p = p[1:]
		default:
			g.length |= int(p[0]&0x7f) << g.shift
			more := p[0]&0x80 != 0
			g.shift += 7
			p = p[1:]
			if more && g.shift < 28 {
				continue
			}
			if err := g.check(more); err != nil {
				return err
			}
			g.kind, g.body = 0, g.length
		}
	}
	return nil
}

func (g *guard) check(unended bool) error {
	if unended || g.length > maxPacket {
		return fmt.Errorf("broker sent a packet of %d bytes or more; wanted at most %d", g.length, maxPacket)
	}
	const suback = 9
	if n := int(g.subscriptions.Load()); g.kind>>4 == suback && g.length != 2+n {
		return fmt.Errorf("broker sent a SUBACK of %d bytes; wanted %d", g.length, 2+n)
	}
	return nil
}
