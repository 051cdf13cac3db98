package broker

import (
	"errors"
	"time"
)

// place waits for one of the handshakes that may go on at once, and takes it. The wait is nobody's handshake yet: what
// waits in vain has cost nothing but a socket. If it were to count as part of a handshake, a machine that is slower than
// the storm that meets it would begin handshakes with little time left, and throw away what it had computed.
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
