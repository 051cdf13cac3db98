package mqtt

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Receipt is the outcome of one publish.
type Receipt struct {
	session *Session
	message Outbound
	acked   chan struct{} // closed by its PUBACK
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
	r.acked, r.done = make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ctx.Err() != nil {
		return nil, s.down(r.message.Topic)
	}
	s.out, s.waiting = append(s.out, r), append(s.waiting, r) // never more than there are slots
	if !s.sending {
		s.sending = true
		s.work.Go(s.send)
	}
	if !s.collecting {
		s.collecting = true
		s.work.Go(s.collect)
	}
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

// send writes publishes, in order, until there is none.
func (s *Session) send() {
	for {
		r := s.next(&s.out, &s.sending)
		if r == nil || s.ctx.Err() != nil {
			return
		}
		m := &r.message
		p := &packets.PublishPacket{FixedHeader: packets.FixedHeader{MessageType: packets.Publish, Qos: QoS, Retain: m.Retain},
			TopicName: m.Topic, MessageID: s.number(r), Payload: m.Payload}
		if err := s.write(p); err != nil {
			s.end(err)
			return
		}
	}
}

// number gives r a packet id of its own: there are far more than a window holds, and they are used in turn [MQTT-2.3.1-2].
func (s *Session) number(r *Receipt) uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		s.lastID++
		if s.lastID != 0 && s.lastID < subscribeID && s.pending[s.lastID] == nil {
			s.pending[s.lastID] = r
			return s.lastID
		}
	}
}

// acked takes a PUBACK. One for an id that is not in use says nothing.
func (s *Session) acked(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.pending[id]; r != nil {
		delete(s.pending, id)
		close(r.acked)
	}
}

// next takes the first receipt out of list. Without one it notes that nobody works on the list any more, and the caller's
// goroutine has to end.
func (s *Session) next(list *[]*Receipt, working *bool) *Receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(*list) == 0 {
		*working, *list = false, nil
		return nil
	}
	r := (*list)[0]
	(*list)[0] = nil
	*list = (*list)[1:]
	return r
}

// collect completes receipts in the order of their publishes; a broker acknowledges in that order too [MQTT-4.6.0-2].
// At the end of the session it fails the rest at once. It ends when nothing waits.
func (s *Session) collect() {
	late := time.NewTimer(s.link.cfg.AckTimeout)
	defer late.Stop()
	for r := s.next(&s.waiting, &s.collecting); r != nil; r = s.next(&s.waiting, &s.collecting) {
		late.Reset(s.link.cfg.AckTimeout)
		if err := s.outcome(r, late.C); err != nil {
			s.end(err)
			r.complete(s.down(r.message.Topic))
			continue // the others fail for the same reason, at once
		}
		s.link.count.published.Add(1)
		r.complete(nil)
	}
}

// outcome waits for the PUBACK of r, or why there will be none.
func (s *Session) outcome(r *Receipt, late <-chan time.Time) error {
	select {
	case <-r.acked:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	case <-late:
		return fmt.Errorf("no PUBACK for %s within %s", r.message.Topic, s.link.cfg.AckTimeout)
	}
}

func (s *Session) failAll() {
	s.mu.Lock()
	s.closed = true
	left := s.waiting
	s.out, s.waiting = nil, nil
	s.mu.Unlock()
	for _, r := range left {
		r.complete(s.down(r.message.Topic))
	}
}
