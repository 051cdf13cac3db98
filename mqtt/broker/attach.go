package broker

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/mqtt"
)

// readerBytes is the smallest buffer that bufio has: mochi reads from one in front of packets that are in memory.
const readerBytes = 16

// session is what mochi's attachClient is, in pieces: that one reads and processes on the goroutine that waits, which
// then keeps 16 KiB of stack. The steps and their order are the same.
type session struct {
	hook    *hook
	peer    *peer
	client  *mochi.Client
	engaged bool // CONNECT was accepted
}

func (l *listener) attach(p *peer) *session {
	return &session{hook: l.broker.hook, peer: p, client: l.broker.server.NewClient(p, l.ID(), "", false)}
}

// converse processes what the client has sent, until there is nothing more: then it returns errNothing. Any other error
// ends the session, and so does nil, cleanly.
func (s *session) converse(buf []byte) error {
	in := &intake{peer: s.peer, buf: buf}
	for {
		err := s.step(in)
		if err != nil {
			return err
		}
		if s.client.Closed() {
			return nil
		}
		s.keepAlive()
	}
}

// keepAlive is how long the client may be silent: one and a half times what it said [MQTT-3.1.2-22].
func (s *session) keepAlive() {
	var until time.Time
	if k := s.client.State.Keepalive; k > 0 {
		until = time.Now().Add(time.Duration(k+k/2) * time.Second)
	}
	_ = s.peer.SetDeadline(until) // a deadline that cannot be set is one of a closed connection
}

// step reads one packet and processes it.
func (s *session) step(in *intake) error {
	head, size, err := in.header()
	if err != nil {
		return err
	}
	defer func() { s.peer.packet = nil }()
	s.peer.packet = head
	n, fh := len(head), new(packets.FixedHeader)
	if err := s.client.ReadFixedHeader(fh); err != nil {
		return err
	}
	if !s.engaged && fh.Type != packets.Connect {
		return packets.ErrProtocolViolationRequireFirstConnect // [MQTT-3.1.0-1]
	}
	packet, err := in.take(size)
	if err != nil {
		return err
	}
	s.peer.packet = packet[n:]
	pk, err := s.client.ReadPacket(fh)
	if err != nil {
		return err
	}
	if s.engaged {
		return s.process(pk)
	}
	return s.engage(pk)
}

// engage answers CONNECT.
func (s *session) engage(pk packets.Packet) error {
	server, cl := s.hook.broker.server, s.client
	cl.ParseConnect(cl.Net.Listener, pk)
	if code := valid(cl, pk); code != packets.CodeSuccess {
		if err := server.SendConnack(cl, code, false, nil); err != nil {
			return fmt.Errorf("%w (and CONNACK was not sent: %w)", code, err)
		}
		return code // [MQTT-3.2.2-7] [MQTT-3.1.4-6]
	}
	if err := s.hook.connect(cl, pk); err != nil {
		return err
	}
	atomic.AddInt64(&server.Info.ClientsConnected, 1)
	s.engaged = true
	s.peer.workers.Go(cl.WriteLoop) // ends with cl.Stop
	server.Clients.Add(cl)          // [MQTT-4.1.0-1]; claim has seen to it that there is no other
	if err := server.SendConnack(cl, packets.CodeSuccess, false, nil); err != nil {
		return fmt.Errorf("send CONNACK: %w", err)
	}
	s.hook.established(cl)
	return nil
}

// valid returns what is wrong with a CONNECT by itself [MQTT-3.1.4-1].
func valid(cl *mochi.Client, pk packets.Packet) packets.Code {
	code, c := pk.ConnectValidate(), &pk.Connect
	switch {
	case code != packets.CodeSuccess:
		return code
	case pk.ProtocolVersion < 5 && !c.Clean && c.ClientIdentifier == "":
		return packets.ErrUnspecifiedError
	case pk.ProtocolVersion < minVersion:
		return packets.ErrUnsupportedProtocolVersion // [MQTT-3.1.2-2]
	case c.WillFlag && c.WillQos > mqtt.QoS:
		return packets.ErrQosNotSupported // [MQTT-3.2.2-12]
	}
	return code
}

// process hands a packet to mochi.
func (s *session) process(pk packets.Packet) error {
	server, cl := s.hook.broker.server, s.client
	err := server.InjectPacket(cl, pk)
	if err == nil { // InjectPacket counts what ReadPacket has counted
		atomic.AddInt64(&server.Info.PacketsReceived, -1)
		if pk.FixedHeader.Type == packets.Publish {
			atomic.AddInt64(&server.Info.MessagesReceived, -1)
		}
		return nil
	}
	if code, ok := errors.AsType[packets.Code](err); ok && cl.Properties.ProtocolVersion == 5 && code.Code >= packets.ErrUnspecifiedError.Code {
		_ = server.DisconnectClient(cl, code) // it returns code
	}
	s.hook.broker.cfg.Log.Debug("packet not processed", agent.KeyNode, s.peer.id.CommonName(), agent.KeyErr, err)
	return err
}

// leave ends the session, with its last will unless it ended cleanly.
func (s *session) leave(err error) {
	cl := s.client
	if s.engaged {
		if err != nil {
			s.bequeath()
		}
		atomic.AddInt64(&s.hook.broker.server.Info.ClientsConnected, -1)
	}
	cl.Properties.Will = mochi.Will{} // [MQTT-3.14.4-3] [MQTT-3.1.2-10]
	cl.Stop(err)
}

// bequeath publishes the last will [MQTT-3.1.2-8].
func (s *session) bequeath() {
	cl, server := s.client, s.hook.broker.server
	if atomic.LoadUint32(&cl.Properties.Will.Flag) == 0 { // mochi has, for a second CONNECT
		return
	}
	will, err := s.hook.OnWill(cl, cl.Properties.Will)
	inline, ok := server.Clients.Get(mochi.InlineClientId)
	if err != nil || !ok || will.TopicName == "" {
		return
	}
	err = server.InjectPacket(inline, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: will.Retain, Qos: will.Qos},
		TopicName:   will.TopicName,
		Payload:     will.Payload,
		PacketID:    uint16(will.Qos), // any: nobody acknowledges it, but one is wanted
		Properties:  packets.Properties{User: will.User},
	})
	if err != nil {
		s.hook.broker.lines.warn("will not published", agent.KeyNode, s.peer.id.CommonName(), agent.KeyTopic, will.TopicName, agent.KeyErr, err)
	}
}
