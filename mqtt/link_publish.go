package mqtt

import (
	"context"
	"fmt"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// Receipt is the outcome of one publish.
type Receipt struct {
	session *Session
	message Outbound
	sent    chan struct{} // closed when token is set
	token   paho.Token
	done    chan struct{} // closed when err is set
	then    func(error)   // called with err, nil when nobody wants to be
	err     error
}

// Publish is Link.Publish on this session.
func (s *Session) Publish(ctx context.Context, topic string, payload []byte, retain bool) error {
	r, err := s.PublishAsync(ctx, topic, payload, retain)
	if err != nil {
		return err
	}
	return r.Wait(ctx)
}

// PublishAsync is Link.PublishAsync on this session.
func (s *Session) PublishAsync(ctx context.Context, topic string, payload []byte, retain bool) (*Receipt, error) {
	if err := s.reserve(ctx, topic, payload); err != nil {
		return nil, err
	}
	return s.submit(&Receipt{session: s, message: Outbound{topic, payload, retain}})
}

// PublishThen is Link.PublishThen on this session.
func (s *Session) PublishThen(ctx context.Context, topic string, payload []byte, then func(error)) error {
	if err := s.reserve(ctx, topic, payload); err != nil {
		return err
	}
	_, err := s.submit(&Receipt{session: s, message: Outbound{topic, payload, false}, then: then})
	return err
}

// reserve checks a publish and waits for a place in the window.
func (s *Session) reserve(ctx context.Context, topic string, payload []byte) error {
	if topic == "" || strings.ContainsAny(topic, "+#\x00") { // [MQTT-3.3.2-2]
		return fmt.Errorf("publish %q: wanted a topic name without wildcards", topic)
	}
	if len(topic)+len(payload)+16 > MaxPacketBytes { // a broker would end the connection over it, again and again
		return fmt.Errorf("publish %s: %d bytes; wanted a packet of at most %d", topic, len(payload), MaxPacketBytes)
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		return s.down(topic)
	case <-ctx.Done():
		return fmt.Errorf("publish %s: %w", topic, ctx.Err())
	}
	return nil
}

// submit puts a publish with a place into the window.
func (s *Session) submit(r *Receipt) (*Receipt, error) {
	r.sent, r.done = make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, s.down(r.message.Topic)
	}
	s.out <- r // neither blocks: there are as many places as slots
	s.waiting <- r
	return r, nil
}

func (s *Session) down(topic string) error {
	return fmt.Errorf("publish %s: %w: %w", topic, ErrDown, context.Cause(s.ctx))
}

// Done is closed when the outcome is known.
func (r *Receipt) Done() <-chan struct{} { return r.done }

// Err is the outcome, nil for a PUBACK. It may be read once Done is closed.
func (r *Receipt) Err() error { return r.err }

// Wait returns the outcome as soon as it is known. When ctx ends first the message may still arrive.
func (r *Receipt) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("publish %s: %w", r.message.Topic, ctx.Err())
	}
}

func (r *Receipt) complete(err error) {
	r.err = err
	close(r.done)
	<-r.session.slots
	if r.then != nil {
		r.then(err)
	}
}

// send hands publishes to the library, in order.
func (s *Session) send() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case r := <-s.out:
			if !s.handOver(r) {
				return
			}
		}
	}
}

// handOver gives r to the library. Its Publish fails at once without a connection, and after a while when its writer is
// busy; then nothing was sent, and it is asked again. It reports false when the session is over.
func (s *Session) handOver(r *Receipt) bool {
	for s.ctx.Err() == nil {
		m := &r.message
		token := s.client.Publish(m.Topic, QoS, m.Retain, m.Payload)
		select {
		case <-token.Done():
			if token.Error() != nil && s.client.IsConnectionOpen() {
				continue
			}
		default:
		}
		r.token = token
		close(r.sent)
		return true
	}
	return false
}

// collect completes receipts in the order of their publishes; a broker acknowledges in that order too [MQTT-4.6.0-2].
// At the end of the session it fails the rest at once.
func (s *Session) collect() {
	late := time.NewTimer(s.link.cfg.AckTimeout)
	defer late.Stop()
	for {
		select {
		case <-s.ctx.Done():
			s.failAll()
			return
		case r := <-s.waiting:
			late.Reset(s.link.cfg.AckTimeout)
			if err := s.outcome(r, late.C); err != nil {
				s.end(err)
				r.complete(s.down(r.message.Topic))
				continue
			}
			s.link.count.published.Add(1)
			r.complete(nil)
		}
	}
}

// outcome waits for the PUBACK of r, or why there will be none.
func (s *Session) outcome(r *Receipt, late <-chan time.Time) error {
	sent, acked := (<-chan struct{})(r.sent), (<-chan struct{})(nil)
	for {
		select {
		case <-sent:
			sent, acked = nil, r.token.Done()
		case <-acked:
			return r.token.Error()
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-late:
			return fmt.Errorf("no PUBACK for %s within %s", r.message.Topic, s.link.cfg.AckTimeout)
		}
	}
}

func (s *Session) failAll() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for {
		select {
		case r := <-s.waiting:
			r.complete(s.down(r.message.Topic))
		default:
			return
		}
	}
}
