package broker

import (
	"errors"
	"net"
	"time"
)

// turn is a connection during its handshake. Before the server's answer is computed, which is where it costs, it takes
// one of the places of the listener; it holds none while it waits for the client. So silent or far-away clients hold up
// nobody, and a machine that is slower than the storm that meets it computes no more than it can: who waits in vain
// has cost nothing but a socket. What has been answered is finished without another place, or it was for nothing.
// One goroutine at a time uses it, until over is set.
type turn struct {
	net.Conn
	listener *listener
	held     bool
	answered bool
	over     bool
	refused  error // there was no place
}

// Read reads without a place, and takes one for what is to be computed of it.
func (t *turn) Read(p []byte) (int, error) {
	if t.over {
		return t.Conn.Read(p)
	}
	t.release()
	n, err := t.Conn.Read(p)
	if n > 0 && !t.answered {
		if t.refused = t.listener.place(); t.refused != nil {
			return 0, t.refused
		}
		t.held = true
	}
	return n, err
}

// Write notes that the server has answered.
func (t *turn) Write(p []byte) (int, error) {
	if !t.over {
		t.answered = true
	}
	return t.Conn.Write(p)
}

func (t *turn) release() {
	if t.held {
		t.held = false
		<-t.listener.slots
	}
}

// place waits for one of the handshakes that may be computed at once, and takes it.
func (l *listener) place() error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	patience := time.NewTimer(l.broker.cfg.Limits.AcceptPatience)
	defer patience.Stop()
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-patience.C:
	case <-l.ctx.Done():
	}
	return &refusal{"handshakes", errors.New("too many at once")}
}
