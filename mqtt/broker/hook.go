package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/mqtt"
)

// hook is where mochi asks us. Only what Provides lists is called.
type hook struct {
	mochi.HookBase
	broker *Broker
	ctx    context.Context // of Handle
}

// ID names the hook.
func (h *hook) ID() string { return "skerry" }

// Provides lists the questions we answer.
func (h *hook) Provides(b byte) bool {
	switch b {
	case mochi.OnACLCheck, mochi.OnPacketRead, mochi.OnPacketEncode, mochi.OnPacketProcessed, mochi.OnSubscribe,
		mochi.OnSubscribed, mochi.OnPublish, mochi.OnPublishDropped, mochi.OnWill:
		return true
	}
	return false
}

// peerOf returns the connection of cl; there is none of the client by which the broker itself publishes.
func peerOf(cl *mochi.Client) (*peer, bool) {
	p, ok := cl.Net.Conn.(*peer)
	return p, ok
}

// established tells the agent, before anything of the session is read.
func (h *hook) established(cl *mochi.Client) {
	p, ok := peerOf(cl)
	if !ok {
		return
	}
	h.broker.cfg.Log.Debug("session begins", agent.KeyNode, p.id.CommonName(), agent.KeyAddr, cl.Net.Remote)
	p.told = true
	if h.broker.cfg.OnConnect != nil {
		h.broker.cfg.OnConnect(p.id)
	}
}

// OnPacketRead paces the client, and ends the reading of one that is to go: what it sent before may still be buffered,
// and must not overtake the message that was refused.
func (h *hook) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	p, ok := peerOf(cl)
	if !ok {
		return pk, nil
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		switch {
		case pk.FixedHeader.Qos > mqtt.QoS:
			h.broker.refuse("qos", p, errQoS, agent.KeyTopic, pk.TopicName)
			p.expel(packets.ErrQosNotSupported, errQoS)
		case strings.HasPrefix(pk.TopicName, "$"): // which mochi would ignore, without a PUBACK
			h.broker.forged("publish", p, errNotYours, pk.TopicName)
			p.expel(packets.ErrNotAuthorized, errNotYours)
		default:
			p.throttle()
		}
	case packets.Puback:
		p.acked() // whatever mochi says: it forgets a message when the client happens to publish with the same packet id
	case packets.Subscribe, packets.Unsubscribe:
		cl.State.Inflight.Delete(pk.PacketID) // or mochi takes the id of a message to the client for one in use by it
	}
	if p.ended() {
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}

var errQoS = fmt.Errorf("publish with QoS 2; wanted at most %d", mqtt.QoS)

// OnPacketEncode runs before each write, outside the lock that publishers to cl need: here is where to wait.
func (h *hook) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	p, ok := peerOf(cl)
	switch {
	case !ok, pk.FixedHeader.Type == packets.Connack:
	case pk.FixedHeader.Type == packets.Disconnect:
		if cl.Properties.ProtocolVersion < 5 { // a server sends none in MQTT 3.1.1 (3.14); mochi then gives up on it
			pk.FixedHeader.Type = packets.Reserved
		}
	default:
		p.hold(&pk)
	}
	return pk
}

// OnACLCheck decides each publish, each subscription, and each delivery.
func (h *hook) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	p, ok := peerOf(cl)
	if !ok {
		return false
	}
	if h.broker.cfg.Topics.May(p.id, topic, write) {
		return true
	}
	if write { // OnSubscribed tells of subscriptions; that a message is not for this subscriber is nothing to tell
		h.broker.forged("publish", p, errNotYours, topic)
		p.expel(packets.ErrNotAuthorized, fmt.Errorf("publish %q: %w", topic, errNotYours))
	}
	return false
}

var errNotYours = errors.New("not permitted by the contract")

// OnPublish hands the message over and lets mochi acknowledge only what was stored: mochi writes the PUBACK after this
// returns, and none for ErrRejectPacket.
func (h *hook) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	p, ok := peerOf(cl)
	if !ok {
		return pk, nil // the broker's own
	}
	b := h.broker
	topic, err := b.cfg.Topics.Parse(pk.TopicName)
	if err != nil { // the cluster agent itself, by mistake: nobody else gets here
		b.refuse("publish", p, err)
		p.expel(packets.ErrNotAuthorized, err)
		return pk, packets.ErrRejectPacket
	}
	err = b.conforms(topic.Kind, pk.FixedHeader.Retain, len(pk.Payload))
	switch {
	case errors.Is(err, errRetain):
		b.forged("retain", p, err, pk.TopicName)
		p.expel(packets.ErrRetainNotSupported, err)
		return pk, packets.ErrRejectPacket
	case err != nil:
		err = fmt.Errorf("%w: %w", err, ErrDiscard)
	default:
		// mochi's strings are parts of the packet: whoever keeps a name would keep the payload with it.
		if topic.Node == p.id.Name {
			topic.Node = p.id.Name
		} else {
			topic.Node = strings.Clone(topic.Node)
		}
		topic.ID = strings.Clone(topic.ID)
		err = h.handle(Inbound{Topic: topic, Raw: pk.TopicName, Payload: pk.Payload, Retained: pk.FixedHeader.Retain, From: p.id})
	}
	switch {
	case err == nil:
		return pk, nil
	case errors.Is(err, ErrDiscard):
		b.count.discarded.Add(1)
		b.lines.warn("message discarded", agent.KeyNode, p.id.CommonName(), agent.KeyTopic, pk.TopicName, agent.KeyErr, err)
		return pk, packets.CodeSuccessIgnore
	}
	b.count.unstored.Add(1)
	if !b.stopping.Load() {
		b.lines.warn("message not stored", agent.KeyNode, p.id.CommonName(), agent.KeyTopic, pk.TopicName, agent.KeyErr, err)
	}
	p.expel(packets.ErrServerBusy, fmt.Errorf("message not stored: %w", err))
	return pk, packets.ErrRejectPacket
}

// handle asks the agent about what goes up or asks. What goes down comes from itself.
func (h *hook) handle(m Inbound) error {
	if dir := h.broker.contract[m.Topic.Kind].Dir; dir != mqtt.Up && dir != mqtt.Ask {
		return nil
	}
	return h.broker.cfg.Handle(h.ctx, m)
}

// OnPublishDropped tells of a client that does not keep up; mochi counts.
func (h *hook) OnPublishDropped(cl *mochi.Client, pk packets.Packet) {
	if p, ok := peerOf(cl); ok {
		h.broker.lines.warn("message dropped", agent.KeyNode, p.id.CommonName(), agent.KeyTopic, pk.TopicName,
			agent.KeyReason, "client is too slow")
	}
}

// OnWill lets the agent see a last will before anybody else does, and keeps back those that would be wrong. connect
// has checked it against the contract.
func (h *hook) OnWill(cl *mochi.Client, will mochi.Will) (mochi.Will, error) {
	p, ok := peerOf(cl)
	none := mochi.Will{} // published to no topic, so to nobody
	if !ok || p.silent.Load() || h.broker.stopping.Load() {
		return none, nil
	}
	topic, err := h.broker.cfg.Topics.Parse(will.TopicName)
	if err != nil {
		return none, nil
	}
	err = h.handle(Inbound{Topic: topic, Raw: will.TopicName, Payload: will.Payload, Retained: will.Retain, Will: true, From: p.id})
	if err != nil {
		h.broker.lines.warn("will not stored", agent.KeyNode, p.id.CommonName(), agent.KeyTopic, will.TopicName, agent.KeyErr, err)
		return none, nil
	}
	return will, nil
}
