package broker

import (
	"errors"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/mqtt"
)

// subscription is what a client asked for, as far as retained messages are concerned.
type subscription struct {
	packets.Subscription
	retained bool // wants what is retained
}

// neverRetained is the Retain Handling (MQTT 5, 3.8.3.1) by which mochi sends no retained messages.
const neverRetained = 2

// OnSubscribe keeps mochi from sending what is retained: it would drop all that its queue to the client does not hold.
// OnPacketProcessed has it sent.
func (h *hook) OnSubscribe(cl *mochi.Client, pk packets.Packet) packets.Packet {
	p, ok := peerOf(cl)
	if !ok {
		return pk
	}
	free := h.broker.cfg.Limits.Subscriptions - cl.State.Subscriptions.Len()
	p.asked = make([]subscription, len(pk.Filters))
	for i := range pk.Filters {
		s := &pk.Filters[i]
		_, existed := cl.State.Subscriptions.Get(s.Filter)
		s.Qos = min(s.Qos, mqtt.QoS)
		p.asked[i] = subscription{*s, s.RetainHandling == 0 || s.RetainHandling == 1 && !existed} // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
		s.RetainHandling = neverRetained
		if !existed {
			if free--; free < 0 {
				s.Filter = "" // which mochi refuses
			}
		}
	}
	return pk
}

var errFilter = errors.New("not permitted by the contract, or too many")

// OnSubscribed tells of refused filters, and keeps the others for OnPacketProcessed.
func (h *hook) OnSubscribed(cl *mochi.Client, _ packets.Packet, codes []byte) {
	p, ok := peerOf(cl)
	if !ok {
		return
	}
	wanted := p.asked[:0]
	for i, s := range p.asked {
		if codes[i] >= packets.ErrUnspecifiedError.Code {
			h.broker.refuse("subscribe", p, errFilter, agent.KeyTopic, s.Filter)
		} else if s.retained {
			wanted = append(wanted, s)
		}
	}
	p.asked = wanted
}

// OnPacketProcessed has the retained messages sent once the SUBACK is.
func (h *hook) OnPacketProcessed(cl *mochi.Client, pk packets.Packet, err error) {
	p, ok := peerOf(cl)
	if !ok || pk.FixedHeader.Type != packets.Subscribe {
		return
	}
	asked := p.asked
	p.asked = nil
	if err != nil || len(asked) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing || len(p.replays)+len(asked) > 2*h.broker.cfg.Limits.Subscriptions {
		h.broker.count.replayed.Add(int64(len(asked)))
		return
	}
	p.replays = append(p.replays, asked...)
	if !p.replaying {
		p.replaying = true
		p.workers.Go(func() { h.replay(cl, p) })
	}
}

// replay sends what is retained for each of p.replays, at the pace at which the client takes it.
func (h *hook) replay(cl *mochi.Client, p *peer) {
	for {
		p.mu.Lock()
		if len(p.replays) == 0 || p.closing {
			p.replays, p.replaying = nil, false
			p.mu.Unlock()
			return
		}
		s := p.replays[0]
		p.replays = p.replays[1:]
		p.mu.Unlock()
		for _, topic := range h.retainedTopics(p, s.Filter) {
			if p.ended() {
				break
			}
			h.replayOne(cl, s, topic)
		}
	}
}

func (h *hook) retainedTopics(p *peer, filter string) []string {
	var topics []string
	for _, pk := range h.broker.server.Topics.Messages(filter) {
		if h.broker.cfg.Topics.May(p.id, pk.TopicName, false) {
			topics = append(topics, pk.TopicName)
		}
	}
	return topics
}

// replayOne sends the message that is retained under topic. A newer one may pass it by on the live path while it waits
// for its turn; then the newer one is sent once more, so that the client ends up with the newest.
func (h *hook) replayOne(cl *mochi.Client, s subscription, topic string) {
	retained := h.broker.server.Topics.Retained
	pk, ok := retained.Get(topic)
	if ok && pk.Expiry > 0 && pk.Expiry < time.Now().Unix() { // as its publisher wanted, by MQTT 5 [MQTT-3.3.2-5]
		retained.Delete(topic)
		return
	}
	for ok {
		if err := h.send(cl, s, pk); err != nil {
			h.broker.count.replayed.Add(1)
			return
		}
		now, still := retained.Get(topic)
		if still && &now.Payload[0] == &pk.Payload[0] { // the same, not just equal; none that is kept is empty
			return
		}
		if !still { // cleared meanwhile: an empty message says so
			now = pk
			now.Payload = nil
			if err := h.send(cl, s, now); err != nil {
				h.broker.count.replayed.Add(1)
			}
			return
		}
		pk = now
	}
}

// send writes one retained message to one client, as mochi does to those that subscribe.
func (h *hook) send(cl *mochi.Client, s subscription, pk packets.Packet) error {
	out := pk.Copy(false)
	out.FixedHeader.Retain = true // [MQTT-3.3.1-8]
	out.FixedHeader.Qos = min(out.FixedHeader.Qos, s.Qos)
	if s.Identifier > 0 {
		out.Properties.SubscriptionIdentifier = []int{s.Identifier} // [MQTT-3.3.4-3]
	}
	if out.FixedHeader.Qos > 0 {
		id, err := cl.NextPacketID()
		if err != nil {
			return err
		}
		out.PacketID = uint16(id)
		cl.State.Inflight.Set(out)
		atomic.AddInt64(&h.broker.server.Info.Inflight, 1)
	}
	return cl.WritePacket(out)
}
