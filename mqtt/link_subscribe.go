package mqtt

import (
	"context"
	"fmt"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// The packet ids of the one SUBSCRIBE and the one UNSUBSCRIBE that may be under way [MQTT-2.3.1-2]; those of PUBLISH are below.
// They are the last ones because there are brokers (mochi) that refuse an id that they use themselves, for a message to us,
// and those count from 1.
const (
	subscribeID   = 65534
	unsubscribeID = 65535
)

// maxFilters is how many filters one SUBSCRIBE holds, so that it stays a short packet.
const maxFilters = 256

// Subscribe asks the broker for filters, in their order, and waits for its consent to all of them: less than QoS 1 for one is
// an error, which the caller should end the session for. What arrives goes to the handler of the first of
// LinkConfig.Subscriptions, then of Later, that matches. The session's end ends it.
func (s *Session) Subscribe(ctx context.Context, filters ...string) error {
	s.asking.Lock()
	defer s.asking.Unlock()
	for len(filters) > 0 {
		n := min(len(filters), maxFilters)
		if err := s.subscribe(ctx, filters[:n]); err != nil {
			return err
		}
		filters = filters[n:]
	}
	return nil
}

// subscribe sends one SUBSCRIBE and waits for its SUBACK. Caller holds asking.
func (s *Session) subscribe(ctx context.Context, filters []string) error {
	p := &packets.SubscribePacket{FixedHeader: packets.FixedHeader{MessageType: packets.Subscribe, Qos: 1}, MessageID: subscribeID} // [MQTT-3.8.1-1]
	for _, f := range filters {
		p.Topics, p.Qoss = append(p.Topics, f), append(p.Qoss, QoS)
	}
	s.wire.guard.subscriptions.Store(int32(len(filters)))
	if err := s.write(p); err != nil {
		return s.because(fmt.Errorf("subscribe: %w", err))
	}
	late := time.NewTimer(s.link.cfg.ConnectTimeout)
	defer late.Stop()
	select {
	case granted := <-s.suback:
		if len(granted) != len(filters) {
			return fmt.Errorf("subscribe: broker answered %d codes; wanted %d", len(granted), len(filters))
		}
		for i, code := range granted {
			if code != QoS { // 0x80 is a refusal [MQTT-3.9.3-2]; less than we need is one too
				return fmt.Errorf("subscribe %s: broker answered %#x; wanted QoS %d granted", filters[i], code, QoS)
			}
		}
		return nil
	case <-s.ctx.Done():
		return s.because(s.ctx.Err())
	case <-ctx.Done():
		return s.because(ctx.Err())
	case <-late.C:
		err := fmt.Errorf("subscribe: no SUBACK within %s", s.link.cfg.ConnectTimeout)
		s.end(err) // one that comes later would be taken for another's
		return err
	}
}

// Unsubscribe takes filters back. Messages that are under way still arrive.
func (s *Session) Unsubscribe(ctx context.Context, filters ...string) error {
	s.asking.Lock()
	defer s.asking.Unlock()
	for len(filters) > 0 {
		n := min(len(filters), maxFilters)
		p := &packets.UnsubscribePacket{FixedHeader: packets.FixedHeader{MessageType: packets.Unsubscribe, Qos: 1}, MessageID: unsubscribeID,
			Topics: filters[:n]} // [MQTT-3.10.1-1]
		if err := s.write(p); err != nil {
			return s.because(fmt.Errorf("unsubscribe: %w", err))
		}
		late := time.NewTimer(s.link.cfg.ConnectTimeout)
		select {
		case <-s.unsub:
			late.Stop()
		case <-s.ctx.Done():
			late.Stop()
			return s.because(s.ctx.Err())
		case <-ctx.Done():
			late.Stop()
			return s.because(ctx.Err())
		case <-late.C:
			err := fmt.Errorf("unsubscribe: no UNSUBACK within %s", s.link.cfg.ConnectTimeout)
			s.end(err)
			return err
		}
		filters = filters[n:]
	}
	return nil
}

// End ends the session for cause; the link connects anew. It does not wait.
func (s *Session) End(cause error) { s.end(cause) }

// Context ends with the session.
func (s *Session) Context() context.Context { return s.ctx }
