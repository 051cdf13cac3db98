package broker

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats counts since the start, but for the fields that say "now".
type Stats struct {
	Connections   int64             // sessions now
	Accepted      int64             // connections whose certificate was accepted
	Refused       map[string]uint64 // by reason
	Received      int64             // messages
	Sent          int64
	BytesIn       int64 // of MQTT, without TLS
	BytesOut      int64
	Dropped       int64  // messages that a slow client did not get
	Discarded     uint64 // messages that Handle could never handle
	Unstored      uint64 // messages that Handle refused; their senders send them again
	Throttled     uint64 // messages that were held back because their sender has too many
	Inflight      int64  // messages sent or queued without their PUBACK, now
	Retained      int64  // messages, now
	Subscriptions int64  // now
}

// counters are those of Stats that mochi does not keep.
type counters struct {
	accepted  atomic.Int64
	discarded atomic.Uint64
	unstored  atomic.Uint64
	throttled atomic.Uint64
	replayed  atomic.Int64 // retained messages that a client could not be given

	mu      sync.Mutex
	refused map[string]uint64
}

func (c *counters) refuse(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = map[string]uint64{}
	}
	c.refused[reason]++
}

// Stats returns the counters.
func (b *Broker) Stats() Stats {
	c := &b.count
	c.mu.Lock()
	s := Stats{Refused: maps.Clone(c.refused)}
	c.mu.Unlock()
	s.Accepted, s.Discarded = c.accepted.Load(), c.discarded.Load()
	s.Unstored, s.Throttled = c.unstored.Load(), c.throttled.Load()
	select {
	case <-b.ready:
	default:
		return s
	}
	info := b.server.Info
	s.Received = atomic.LoadInt64(&info.MessagesReceived)
	s.Sent = atomic.LoadInt64(&info.MessagesSent)
	s.BytesIn = atomic.LoadInt64(&info.BytesReceived)
	s.BytesOut = atomic.LoadInt64(&info.BytesSent)
	s.Dropped = atomic.LoadInt64(&info.MessagesDropped) + atomic.LoadInt64(&info.InflightDropped) + c.replayed.Load()
	s.Retained = int64(b.server.Topics.Retained.Len())
	s.Subscriptions = atomic.LoadInt64(&info.Subscriptions)
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Connections = int64(len(b.sessions))
	for _, p := range b.sessions {
		if cl := p.client.Load(); cl != nil {
			s.Inflight += int64(cl.State.Inflight.Len()) // mochi's own gauge drifts with each drop
		}
	}
	return s
}
