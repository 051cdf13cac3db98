package mqtt

import (
	"errors"
	"io"
	"math/rand/v2"
	"syscall"
	"time"
)

// sentAwayError is the end of a connection that the broker took and closed without a word of TLS: it lets in so many a second, and
// this was one more. (It may as well be a proxy without a server.)
type sentAwayError struct{ err error }

func (e *sentAwayError) Error() string { return "sent away: " + e.err.Error() }
func (e *sentAwayError) Unwrap() error { return e.err }

// sentAway marks the error of a handshake that the other side ended before it.
func sentAway(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return &sentAwayError{err}
	}
	return err
}

// SetCrowd tells the link how long the broker takes to let in all that want to, when they come at once; 0: not known. A link that is
// sent away comes back at a random time within that, instead of its backoff, which is too short for the many at first and too long
// for the last of them in the end: as many as were let in come fewer. One that is sent away more than patientAway times in a row takes
// twice the time each time, for it may be that nobody is let in. The word holds for the link's life.
func (l *Link) SetCrowd(d time.Duration) { l.crowd.Store(int64(d)) }

// patientAway is how often in a row a link is sent away before it takes more time.
const patientAway = 4

// pause is how long Run waits after a connection that ended with err.
func (l *Link) pause(err error) time.Duration {
	crowd := time.Duration(l.crowd.Load())
	if _, away := errors.AsType[*sentAwayError](err); !away || crowd == 0 {
		l.away = 0
		return l.backoff.Next()
	}
	if l.away++; l.away < len(l.servers) { // another address may have nobody before it
		return l.backoff.Next()
	}
	within := crowd << min(max(0, l.away-len(l.servers)-patientAway+1), 10)
	return rand.N(max(crowd, min(within, l.cfg.BackoffMax)))
}
