package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/time/rate"

	"github.com/skerry-edge/skerry/mqtt"
)

const (
	// pendingBytes is what may wait for a client's socket; then its packets wait in mochi's queue, and beyond that are
	// dropped. An idle connection holds no buffer at all.
	pendingBytes = 16 << 10
	// lastWords is how long a connection that ends may take for what was written before: CONNACK, DISCONNECT.
	lastWords = time.Second
)

// peer is a connection with who is at its other end. mochi keeps it as the client's connection, which is how the hook
// finds it. Write never blocks, because mochi writes under the lock that publishers to this client need.
type peer struct {
	*tls.Conn
	socket   *socket
	packet   []byte // what mochi is to read now
	broker   *Broker
	id       mqtt.Identity
	notAfter time.Time
	denied   error // why Authorize refused; the client is told in CONNACK
	limiter  *rate.Limiter
	client   atomic.Pointer[mochi.Client]
	silent   atomic.Bool   // keeps the last will back
	gone     chan struct{} // closed when the connection is to end
	over     chan struct{} // closed when the session is over and everybody was told

	key   string         // mochi's client id, once the session is this peer's
	told  bool           // OnConnect was called
	asked []subscription // of the SUBSCRIBE that is being processed

	mu       sync.Mutex
	room     *sync.Cond // pending, unacked or closing changed
	pending  []byte     // written, not yet taken by the flusher
	flushing bool
	closing  bool
	unacked  int // QoS 1 messages without their PUBACK
	window   int
	reason   error

	replays   []subscription // wait for their retained messages
	replaying bool
	workers   sync.WaitGroup // flusher, replayer, writer
}

func newPeer(b *Broker, conn *tls.Conn, s *socket) *peer {
	perSecond := b.cfg.Limits.MessagesPerSecond
	p := &peer{Conn: conn, socket: s, broker: b, window: b.cfg.Limits.Window, gone: make(chan struct{}), over: make(chan struct{}),
		limiter: rate.NewLimiter(rate.Limit(perSecond), perSecond)}
	p.room = sync.NewCond(&p.mu)
	return p
}

// Write queues data for the flusher. What bounds the queue is hold, which mochi calls before.
func (p *peer) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return 0, net.ErrClosed
	}
	p.pending = append(p.pending, data...)
	p.flushLocked()
	return len(data), nil
}

func (p *peer) flushLocked() {
	if !p.flushing {
		p.flushing = true
		p.workers.Go(p.flush)
	}
}

// hold waits until pk may be written: there is room, and for a QoS 1 message the client has acknowledged enough of
// those before. It waits on a condition rather than on ctx: Close, which every end of ctx leads to, wakes it.
func (p *peer) hold(pk *packets.Packet) {
	counts := pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos > 0
	tooLarge := pk.Mods.MaxSize > 0 && len(pk.TopicName)+len(pk.Payload) > int(pk.Mods.MaxSize) // mochi will not send it
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closing && (len(p.pending) >= pendingBytes || counts && p.unacked >= p.window) {
		p.room.Wait()
	}
	if counts && !tooLarge {
		p.unacked++
	}
}

// acked makes room for one more QoS 1 message.
func (p *peer) acked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unacked > 0 {
		p.unacked--
		p.room.Broadcast()
	}
}

// flush writes what is pending until nothing is, and closes the connection if that is due. It lives no longer, so idle
// connections have no flusher.
func (p *peer) flush() {
	for {
		p.mu.Lock()
		data, closing := p.pending, p.closing
		p.pending = nil
		if len(data) == 0 && !closing {
			p.flushing = false
			p.mu.Unlock()
			return
		}
		p.room.Broadcast()
		p.mu.Unlock()
		if len(data) == 0 {
			p.farewell()
			return
		}
		timeout := p.broker.cfg.Limits.WriteTimeout
		if closing {
			timeout = lastWords
		}
		err := p.Conn.SetWriteDeadline(time.Now().Add(timeout))
		if err == nil {
			_, err = p.Conn.Write(data)
		}
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !closing {
			err = fmt.Errorf("takes nothing since %s: %w", timeout, err)
			p.broker.refuse("stalled", p, err)
		}
		p.end(fmt.Errorf("write: %w", err)) // leaves flushing set: nobody starts another
		_ = p.socket.Close()                // after a failed write there is nothing to say goodbye with
		return
	}
}

// farewell says close_notify (RFC 8446 §6.1) and closes, within lastWords: tls.Conn alone would take 5 s.
func (p *peer) farewell() {
	limit := time.AfterFunc(lastWords, func() { _ = p.socket.Close() })
	defer limit.Stop()
	_ = p.Conn.Close() // the peer may have left before
}

// Close ends the connection once what was written is sent. Reading ends at once.
func (p *peer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return nil
	}
	p.closing = true
	close(p.gone)
	p.room.Broadcast()
	err := p.Conn.SetReadDeadline(time.Unix(1, 0))
	p.flushLocked()
	return err
}

// SetDeadline is mochi's keepalive: it is about reading. Writing has WriteTimeout.
func (p *peer) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing { // must not undo what ended the reading
		return net.ErrClosed
	}
	return p.Conn.SetReadDeadline(t)
}

// end closes the connection for reason; the first reason counts.
func (p *peer) end(reason error) {
	p.mu.Lock()
	if p.reason == nil && !p.closing {
		p.reason = reason
	}
	p.mu.Unlock()
	_ = p.Close() // a deadline that cannot be set is one of a closed connection
}

// expel tells an MQTT 5 client why (3.14; MQTT 3.1.1 has no such packet from a server), then ends the connection. It
// leaves stopping the client to mochi's reader, which sends the will.
func (p *peer) expel(code packets.Code, reason error) {
	if cl := p.client.Load(); cl != nil && cl.Properties.ProtocolVersion == 5 {
		// An error is one of a closed connection.
		_ = cl.WritePacket(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: code.Code})
	}
	p.end(reason)
}

// ended reports whether the connection is to end.
func (p *peer) ended() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// cause is why the session ended, err unless end knew.
func (p *peer) cause(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reason != nil {
		return p.reason
	}
	return err
}

// throttle waits until the client may send one more message. The socket is not read meanwhile: TCP slows it down.
func (p *peer) throttle() {
	wait := p.limiter.Reserve().Delay()
	if wait <= 0 {
		return
	}
	p.broker.count.throttled.Add(1)
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-p.gone:
	case <-t.C:
	}
}
