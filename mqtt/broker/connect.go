package broker

import (
	"errors"
	"fmt"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/mqtt"
)

const (
	maxClientID = 128
	// maxKeepalive is the longest whose one and a half mochi can still count (16 bits).
	maxKeepalive = 43690
)

// connect checks what a client asks for in CONNECT, makes the session its own, and takes from the request what this
// broker does not do.
func (h *hook) connect(cl *mochi.Client, pk packets.Packet) error {
	p, ok := peerOf(cl)
	if !ok {
		return packets.ErrNotAuthorized
	}
	code, err := h.admissible(p, pk)
	if err == nil {
		key := p.id.Name
		if p.id.Kind != mqtt.NodeIdentity {
			key = p.id.CommonName() + "/" + cl.ID // mochi has made one up for a client that has none [MQTT-3.1.3-6]
		}
		if err = h.broker.claim(h.ctx, key, p); err != nil {
			code = packets.ErrServerBusy
		}
		cl.ID = key
	}
	if err != nil {
		switch {
		case p.denied != nil: // that was told when it was found out
		case errors.Is(err, errNotYours) || errors.Is(err, errRetain):
			h.broker.forged("connect", p, err, pk.Connect.WillTopic)
		default:
			h.broker.refuse("connect", p, err, agent.KeyAddr, cl.Net.Remote)
		}
		if cl.Properties.ProtocolVersion < 5 {
			code = oldCode(code)
		}
		p.end(h.sorry(cl, code, err))
		return code
	}
	cl.Properties.Clean = true
	cl.Properties.Props.TopicAliasMaximum = 0 // mochi would use an alias whose first message it dropped
	cl.Properties.Will.WillDelayInterval = 0  // the session ends now, and with it the delay [MQTT-3.1.3-9]
	if cl.State.Keepalive > maxKeepalive {
		cl.State.Keepalive, cl.State.ServerKeepalive = maxKeepalive, true
	}
	if most := int(cl.Properties.Props.ReceiveMaximum); most > 0 {
		p.mu.Lock()
		p.window = min(p.window, most)
		p.mu.Unlock()
	}
	cl.State.Inflight.ResetSendQuota(0) // hold counts instead: mochi's own way takes a read lock twice, and may lock up
	p.client.Store(cl)
	return nil
}

// sorry sends the CONNACK that says no.
func (h *hook) sorry(cl *mochi.Client, code packets.Code, why error) error {
	if err := h.broker.server.SendConnack(cl, code, false, nil); err != nil {
		return fmt.Errorf("%w (and CONNACK was not sent: %w)", why, err)
	}
	return why
}

// oldCode is code as far as MQTT 3.1.1 can tell (3.2.2.3), in the form that mochi translates.
func oldCode(code packets.Code) packets.Code {
	switch code {
	case packets.ErrClientIdentifierNotValid:
		return code
	case packets.ErrServerBusy:
		return packets.ErrServerUnavailable
	}
	return packets.ErrBadUsernameOrPassword // 5, not authorized
}

// admissible returns why a CONNECT is refused, and how to tell.
func (h *hook) admissible(p *peer, pk packets.Packet) (packets.Code, error) {
	if p.denied != nil {
		return packets.ErrNotAuthorized, p.denied
	}
	id := pk.Connect.ClientIdentifier
	if len(id) > maxClientID {
		return packets.ErrClientIdentifierNotValid, fmt.Errorf("client id has %d bytes; wanted at most %d", len(id), maxClientID)
	}
	if p.id.Kind == mqtt.NodeIdentity {
		if id != p.id.Name {
			return packets.ErrClientIdentifierNotValid, fmt.Errorf("client id %q; wanted the node's own, %q", id, p.id.Name)
		}
		if pk.Connect.Keepalive == 0 {
			return packets.ErrNotAuthorized, errors.New("keepalive is 0; wanted one, or a lost node would look alive")
		}
	}
	if !pk.Connect.WillFlag {
		return packets.CodeSuccess, nil
	}
	return h.willing(p, pk.Connect)
}

// willing checks a will as if it were published now, because nobody can be told later.
func (h *hook) willing(p *peer, c packets.ConnectParams) (packets.Code, error) {
	topics := h.broker.cfg.Topics
	if !topics.May(p.id, c.WillTopic, true) {
		return packets.ErrNotAuthorized, fmt.Errorf("will on topic %q: %w", c.WillTopic, errNotYours)
	}
	topic, err := topics.Parse(c.WillTopic)
	if err == nil {
		err = h.broker.conforms(topic.Kind, c.WillRetain, len(c.WillPayload))
	}
	if err != nil {
		return packets.ErrNotAuthorized, fmt.Errorf("will: %w", err)
	}
	return packets.CodeSuccess, nil
}
