package mqtt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/skerry-edge/skerry/agent"
)

// Session is one connection of a link, from CONNACK to its end. Safe for concurrent use.
type Session struct {
	link   *Link
	wire   *wire
	ping   *time.Timer
	pings  sync.WaitGroup  // 1 while ping is set or its function runs
	suback chan []byte     // holds one
	unsub  chan struct{}   // holds one
	asking sync.Mutex      // one SUBSCRIBE or UNSUBSCRIBE after the other
	over   chan struct{}   // closed when nothing is read any more
	ctx    context.Context // its cause is why the session ended
	cancel context.CancelCauseFunc
	work   *agent.Crew

	shards []shard // inbound
	acks   acks
	held   atomic.Int64 // bytes that wait or are handled

	writing sync.Mutex // one packet after the other

	slots chan struct{} // one per publish without its PUBACK
	mu    sync.Mutex
	// A link is idle most of the time, and there may be thousands of them: who works on these two runs only while there is
	// something in them. Both are in the order of the publishes.
	out, waiting        []*Receipt // to be written, to be completed
	sending, collecting bool
	closed              bool
	pending             map[uint16]*Receipt // sent, by packet id
	lastID              uint16
}

// shard is a queue whose messages are handled one after the other, by a goroutine that ends when it is empty.
type shard struct {
	mu    sync.Mutex
	queue []*delivery
	busy  bool
}

// newSession outlives ctx: on stop it still carries the goodbye.
func newSession(ctx context.Context, l *Link) *Session {
	s := &Session{link: l, shards: make([]shard, l.cfg.Shards), slots: make(chan struct{}, l.cfg.Window),
		suback: make(chan []byte, 1), unsub: make(chan struct{}, 1), over: make(chan struct{}), pending: map[uint16]*Receipt{}}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.work = agent.NewCrew(l.cfg.Keep, s.ctx.Done())
	return s
}

// end ends the session, once, for cause. It does not wait.
func (s *Session) end(cause error) {
	s.cancel(cause)
	s.wire.drop(cause)
}

// close ends the session and joins everything that it started. A nil cause is a clean stop.
func (s *Session) close(cause error) {
	if cause == nil {
		cause = errStopped
	}
	s.end(cause)
	<-s.over    // nothing comes in any more
	s.failAll() // nothing is begun any more
	if s.ping.Stop() {
		s.pings.Done() // else keepAlive runs, or has ended
	}
	s.pings.Wait()
	s.work.Wait()
}

// because returns why the session ended, or err while it has not.
func (s *Session) because(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	return err
}

// receive queues a message. Reading goes on meanwhile, for it also carries acknowledgements, so it never blocks.
func (s *Session) receive(m *packets.PublishPacket) {
	s.link.count.received.Add(1)
	q := &s.shards[0]
	if len(s.shards) > 1 {
		q = &s.shards[s.link.cfg.Shard(m.TopicName)%uint32(len(s.shards))]
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	if len(q.queue) == s.link.cfg.Queue { // everything inbound is sent again or level-triggered, so a fresh session loses nothing
		s.link.count.overflows.Add(1)
		s.end(fmt.Errorf("inbound queue is full with %d messages", len(q.queue)))
		return
	}
	if limit, held := s.link.cfg.QueueBytes, s.held.Load(); limit > 0 && held > 0 && held+weight(m) > int64(limit) {
		s.link.count.overflows.Add(1)
		s.end(fmt.Errorf("inbound queue is full with %d bytes", held))
		return
	}
	d := &delivery{packet: m, id: m.MessageID}
	if limit := min(len(s.shards)*(s.link.cfg.Queue+1), maxAcks); m.Qos > 0 && !s.acks.expect(d, limit) {
		s.link.count.overflows.Add(1)
		s.end(fmt.Errorf("%d messages await their PUBACK behind one that is still handled", limit))
		return
	}
	s.held.Add(weight(m))
	q.queue = append(q.queue, d)
	if !q.busy {
		q.busy = true
		s.work.Go(func() { s.handle(q) })
	}
}

// weight is what a message counts for in LinkConfig.QueueBytes.
func weight(m *packets.PublishPacket) int64 { return int64(len(m.TopicName) + len(m.Payload)) }

// handle runs the handlers of one shard until it is empty or the session is over.
func (s *Session) handle(q *shard) {
	for {
		d := q.take()
		if d == nil || s.ctx.Err() != nil || !s.handleOne(d) {
			return
		}
	}
}

// take returns the next message. Without one the caller's goroutine has to end.
func (q *shard) take() *delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		q.busy, q.queue = false, nil
		return nil
	}
	d := q.queue[0]
	q.queue[0] = nil
	q.queue = q.queue[1:]
	return d
}

// errUnasked is what becomes of a message on a topic that no subscription covers.
var errUnasked = fmt.Errorf("no subscription matches: %w", ErrDiscard)

func (s *Session) handleOne(d *delivery) bool {
	m, log := d.packet, s.link.cfg.Log
	err := errUnasked
	if h := s.link.handlerOf(m.TopicName); h != nil {
		err = h(s.ctx, Inbound{m.TopicName, m.Payload, m.Retain, m.Dup})
	}
	s.held.Add(-weight(m))
	switch {
	case err == nil:
	case errors.Is(err, ErrDiscard):
		s.link.count.discarded.Add(1)
		log.Warn("message discarded", agent.KeyTopic, m.TopicName, agent.KeyErr, err)
	case s.ctx.Err() != nil:
		return false // interrupted, not refused
	default:
		s.link.count.refused.Add(1)
		s.end(fmt.Errorf("handle %s: %w", m.TopicName, err))
		return false
	}
	if err := s.acknowledge(d); err != nil {
		s.end(err)
		return false
	}
	return true
}

func (l *Link) handlerOf(topic string) Handler {
	for _, list := range [...][]Subscription{l.cfg.Subscriptions, l.cfg.Later} {
		for i := range list {
			if matches(list[i].Filter, topic) {
				return list[i].Handler
			}
		}
	}
	return nil
}

// matches reports whether filter covers topic [MQTT-4.7]. A wildcard at the front does not cover $-topics
// [MQTT-4.7.2-1].
func matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (filter[:1] == "#" || filter[:1] == "+") {
		return false
	}
	for {
		f, restFilter, moreFilter := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, restTopic, moreTopic := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !moreFilter || !moreTopic {
			return moreFilter == moreTopic || moreFilter && restFilter == "#" // "a/#" covers "a" [MQTT-4.7.1-2]
		}
		filter, topic = restFilter, restTopic
	}
}
