package mqtt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// goodbyeWithin bounds the publish of the goodbye on stop.
const goodbyeWithin = 2 * time.Second

// errStopped is the cause of a session's end after a clean stop.
var errStopped = errors.New("link stopped")

// Run connects, and connects again, until ctx ends: then it says goodbye and returns nil. No failure is fatal: a broker
// that is away or refuses is asked again, for ever. It is called once.
func (l *Link) Run(ctx context.Context) error {
	if !l.running.CompareAndSwap(false, true) {
		return errors.New("run link: already run")
	}
	for at := 0; ; {
		stable, err := l.serve(ctx, l.servers[at])
		if ctx.Err() != nil {
			return nil
		}
		if stable {
			l.backoff.Reset()
		} else {
			at = (at + 1) % len(l.servers)
		}
		wait := l.pause(err)
		l.setFailed(err, wait)
		l.cfg.Log.Warn("link down", agent.KeyErr, err, agent.KeyWait, agent.Brief(wait))
		if !agent.Wait(ctx, wait) {
			return nil
		}
	}
}

// serve is one connection from dialling to its end. stable tells whether it held.
func (l *Link) serve(ctx context.Context, srv server) (stable bool, err error) {
	l.setTrying(srv)
	s, err := l.open(ctx, srv)
	if err != nil {
		return false, fmt.Errorf("connect %s: %w", srv.name, err)
	}
	if err = l.establish(ctx, s); err == nil {
		l.setUp(s)
		if l.cfg.OnUp != nil {
			l.cfg.OnUp()
		}
		l.cfg.Log.Info("link up", agent.KeyURL, srv.name)
		stable, err = l.hold(ctx, s)
	}
	wasUp := l.setDown()
	if ctx.Err() != nil && l.leave(ctx, s) {
		err = nil
	}
	s.close(err)
	if wasUp && l.cfg.OnDown != nil {
		l.cfg.OnDown(err)
	}
	return stable, err
}

// establish subscribes and announces. It ends early when ctx or the session does.
func (l *Link) establish(ctx context.Context, s *Session) error {
	both, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	var now []string
	for _, sub := range l.cfg.Subscriptions {
		now = append(now, sub.Filter)
	}
	if err := s.Subscribe(both, now...); err != nil {
		return err
	}
	if l.cfg.Announce != nil {
		if err := l.cfg.Announce(both, s); err != nil {
			return s.because(fmt.Errorf("announce: %w", err))
		}
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return ctx.Err()
}

// hold waits for the end of ctx or of the session.
func (l *Link) hold(ctx context.Context, s *Session) (stable bool, err error) {
	held := time.NewTimer(l.cfg.StableAfter)
	defer held.Stop()
	for {
		select {
		case <-held.C:
			stable = true
		case <-s.ctx.Done():
			return stable, context.Cause(s.ctx)
		case <-ctx.Done():
			return stable, ctx.Err()
		}
	}
}

// leave says goodbye and disconnects cleanly, and reports whether both worked. After DISCONNECT the broker discards the
// will [MQTT-3.14.4-3].
func (l *Link) leave(ctx context.Context, s *Session) bool {
	if s.ctx.Err() != nil {
		return false
	}
	if l.cfg.Goodbye != nil {
		if m, ok := l.cfg.Goodbye(); ok {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeWithin)
			defer cancel()
			if err := s.Publish(ctx, m.Topic, m.Payload, m.Retain); err != nil {
				l.cfg.Log.Warn("goodbye not acknowledged", agent.KeyErr, err)
				return false
			}
		}
	}
	s.disconnect()
	return true
}

// Publish sends payload to topic with QoS 1 and returns after the broker's PUBACK, or with an error that wraps ErrDown
// when there is no session or it ends first. payload must not change until then.
func (l *Link) Publish(ctx context.Context, topic string, payload []byte, retain bool) error {
	r, err := l.PublishAsync(ctx, topic, payload, retain)
	if err != nil {
		return err
	}
	return r.Wait(ctx)
}

// PublishAsync is Publish without the wait for the PUBACK. What one goroutine publishes stays in order. It blocks while
// LinkConfig.Window publishes are unacknowledged.
func (l *Link) PublishAsync(ctx context.Context, topic string, payload []byte, retain bool) (*Receipt, error) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("publish %s: %w", topic, ErrDown)
	}
	return s.PublishAsync(ctx, topic, payload, retain)
}

// PublishThen is PublishAsync, not retained, with the outcome told to then: once, from the session's own goroutine, which Run
// joins. It must be quick and publish nothing. It is not called when PublishThen itself returns an error.
func (l *Link) PublishThen(ctx context.Context, topic string, payload []byte, then func(error)) error {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s == nil {
		return fmt.Errorf("publish %s: %w", topic, ErrDown)
	}
	return s.PublishThen(ctx, topic, payload, then)
}
