package mqtt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// joinWithin bounds the wait for the broker's end of the connection after DISCONNECT.
const joinWithin = 500 * time.Millisecond

// RefusedError is a CONNACK that refuses the connection [MQTT-3.2.2-4].
type RefusedError struct{ Code byte }

// Error tells what the code means and who can cure it.
func (e *RefusedError) Error() string {
	text := "unknown return code"
	switch e.Code {
	case packets.ErrRefusedBadProtocolVersion:
		text = "unacceptable protocol version; wanted a broker that speaks MQTT 3.1.1"
	case packets.ErrRefusedIDRejected:
		text = "client id rejected"
	case packets.ErrRefusedServerUnavailable:
		text = "server unavailable"
	case packets.ErrRefusedBadUsernameOrPassword:
		text = "bad user name or password"
	case packets.ErrRefusedNotAuthorised:
		text = "not authorised; does the broker know this certificate or user?"
	}
	return fmt.Sprintf("broker refused the connection: %s (CONNACK %d)", text, e.Code)
}

// open makes a session: Begin, dial, TLS, CONNECT, CONNACK. Its goroutines run when it returns; nothing is subscribed.
func (l *Link) open(ctx context.Context, srv server) (*Session, error) {
	var will Outbound
	if l.cfg.Begin != nil {
		var err error
		if will, err = l.cfg.Begin(ctx); err != nil {
			return nil, fmt.Errorf("begin session: %w", err)
		}
	}
	conn, err := l.dial(ctx, srv)
	if err != nil {
		return nil, err
	}
	s := newSession(ctx, l)
	s.wire = conn
	unwatch := context.AfterFunc(ctx, func() { conn.drop(ctx.Err()) }) // a CONNACK may take ConnectTimeout
	err = s.hello(will)
	unwatch()
	if err != nil {
		l.tickets.failed(err)
		s.end(err)
		return nil, err
	}
	s.mu.Lock()
	s.pings.Add(1) // keepAlive takes it back, or close when it stops the timer
	s.ping = time.AfterFunc(l.cfg.KeepAlive, s.keepAlive)
	s.mu.Unlock()
	s.work.Go(s.read)
	return s, nil
}

// hello says CONNECT and waits for a CONNACK that accepts it.
func (s *Session) hello(will Outbound) error {
	c := &s.link.cfg
	p := &packets.ConnectPacket{FixedHeader: packets.FixedHeader{MessageType: packets.Connect}, ProtocolName: "MQTT", ProtocolVersion: 4, // 3.1.1
		CleanSession: true, ClientIdentifier: c.ClientID, Keepalive: uint16(c.KeepAlive / time.Second), UsernameFlag: c.Username != "",
		Username: c.Username, PasswordFlag: c.Password != "", Password: []byte(c.Password)}
	if will.Topic != "" {
		p.WillFlag, p.WillTopic, p.WillMessage, p.WillQos, p.WillRetain = true, will.Topic, will.Payload, QoS, will.Retain
	}
	if err := s.wire.SetDeadline(time.Now().Add(c.ConnectTimeout)); err != nil {
		return s.wire.why(err)
	}
	if err := s.write(p); err != nil {
		return fmt.Errorf("send CONNECT: %w", err)
	}
	answer, err := packets.ReadPacket(s.wire)
	if err != nil {
		return fmt.Errorf("wait for CONNACK: %w", err)
	}
	ack, ok := answer.(*packets.ConnackPacket)
	if !ok { // [MQTT-3.2.0-1]
		return fmt.Errorf("wait for CONNACK: broker sent %T", answer)
	}
	if ack.ReturnCode != packets.Accepted {
		return &RefusedError{Code: ack.ReturnCode}
	}
	if ack.SessionPresent { // [MQTT-3.2.2-1]
		return errors.New("broker kept a session although a clean one was asked for")
	}
	s.wire.connected.Store(true)
	if err := s.wire.SetDeadline(time.Time{}); err != nil {
		return s.wire.why(err)
	}
	return nil
}

// write sends a packet, which package packets does with one write, so that it is one TLS record. Safe for concurrent use.
func (s *Session) write(p packets.ControlPacket) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return p.Write(s.wire)
}

// read takes what the broker sends until the connection ends, which ends the session.
func (s *Session) read() {
	defer close(s.over)
	for {
		p, err := packets.ReadPacket(s.wire)
		if err == nil {
			err = s.take(p)
		}
		if err != nil {
			s.end(err)
			return
		}
	}
}

func (s *Session) take(p packets.ControlPacket) error {
	switch p := p.(type) {
	case *packets.PublishPacket:
		if err := checkPublish(p); err != nil {
			return err
		}
		s.receive(p)
	case *packets.PubackPacket:
		s.acked(p.MessageID)
	case *packets.SubackPacket:
		if p.MessageID != subscribeID { // [MQTT-3.8.4-2]
			return fmt.Errorf("broker sent a SUBACK of packet id %d; wanted %d", p.MessageID, subscribeID)
		}
		select {
		case s.suback <- p.ReturnCodes:
		default:
			return errors.New("broker sent a SUBACK that nobody waits for")
		}
	case *packets.UnsubackPacket:
		if p.MessageID != unsubscribeID { // [MQTT-3.10.4-4]
			return fmt.Errorf("broker sent an UNSUBACK of packet id %d; wanted %d", p.MessageID, unsubscribeID)
		}
		select {
		case s.unsub <- struct{}{}:
		default:
			return errors.New("broker sent an UNSUBACK that nobody waits for")
		}
	case *packets.PingrespPacket: // that it came is all that it says
	default:
		return fmt.Errorf("broker sent %T", p)
	}
	return nil
}

// checkPublish refuses what no broker may send: it is not understood, and what follows may be worse.
func checkPublish(p *packets.PublishPacket) error {
	switch {
	case p.Qos > QoS:
		return fmt.Errorf("broker sent %.80q with QoS %d; at most %d was asked for", p.TopicName, p.Qos, QoS)
	case p.Qos > 0 && p.MessageID == 0: // [MQTT-2.3.1-1]
		return fmt.Errorf("broker sent %.80q with packet id 0", p.TopicName)
	case p.TopicName == "": // [MQTT-4.7.3-1]
		return errors.New("broker sent a message without a topic")
	case !utf8.ValidString(p.TopicName): // [MQTT-1.5.3-1]
		return fmt.Errorf("broker sent topic %.80q; wanted UTF-8", p.TopicName)
	case strings.ContainsAny(p.TopicName, "+#\x00"): // [MQTT-3.3.2-2], [MQTT-4.7.3-2]
		return fmt.Errorf("broker sent topic %.80q; wanted a name without wildcards and NUL", p.TopicName)
	}
	return nil
}

// keepAlive asks the broker for a sign of life when either side was silent for a keepalive [MQTT-3.1.2-23], and looks
// again when that may be so.
func (s *Session) keepAlive() {
	every := s.link.cfg.KeepAlive
	left := every - s.wire.silent()
	if left <= 0 {
		if err := s.write(packets.NewControlPacket(packets.Pingreq)); err != nil {
			s.end(err)
		}
		left = every
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.pings.Done()
		return
	}
	s.ping.Reset(left)
}

// disconnect sends DISCONNECT and waits briefly for the broker to end the connection [MQTT-3.14.4-2]: a socket that is
// closed with something unread in it takes back what was sent last.
func (s *Session) disconnect() {
	if s.write(packets.NewControlPacket(packets.Disconnect)) != nil {
		return
	}
	late := time.NewTimer(joinWithin)
	defer late.Stop()
	select {
	case <-s.over:
	case <-late.C:
	}
}
