package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// client is who connects: as cheap as a load generator has to be, it writes and reads MQTT 3.1.1 packets itself.
type client struct {
	id  string
	tls *tls.Config
}

// session is a connection that has its CONNACK. Write serves one goroutine at a time, Read another one.
type session struct {
	conn net.Conn
}

// connect dials addr with mutual TLS and says CONNECT. The session ends with ctx.
func (c client) connect(ctx context.Context, addr string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, comeUp)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c.tls}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", c.id, err)
	}
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession, hello.ClientIdentifier = "MQTT", 4, true, c.id
	hello.Keepalive = 600 // longer than a measurement: pings would only disturb it
	s := &session{conn: conn}
	answer, err := s.ask(hello)
	if err == nil {
		if ack, ok := answer.(*packets.ConnackPacket); !ok || ack.ReturnCode != packets.Accepted {
			err = fmt.Errorf("broker answered %v", answer)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect %s: %w", c.id, err), conn.Close())
	}
	return s, nil
}

// ask writes p and reads one packet, within comeUp.
func (s *session) ask(p packets.ControlPacket) (packets.ControlPacket, error) {
	if err := s.conn.SetDeadline(time.Now().Add(comeUp)); err != nil {
		return nil, err
	}
	if err := p.Write(s.conn); err != nil {
		return nil, err
	}
	answer, err := packets.ReadPacket(s.conn)
	return answer, errors.Join(err, s.conn.SetDeadline(time.Time{}))
}

func (s *session) subscribe(filter string) error {
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID, p.Topics, p.Qoss = 1, []string{filter}, []byte{1}
	answer, err := s.ask(p)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", filter, err)
	}
	if ack, ok := answer.(*packets.SubackPacket); !ok || len(ack.ReturnCodes) != 1 || ack.ReturnCodes[0] > 2 {
		return fmt.Errorf("subscribe to %s: broker answered %v", filter, answer)
	}
	return nil
}

func publication(topic string, payload []byte, id uint16) *packets.PublishPacket {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.Qos, p.TopicName, p.Payload, p.MessageID = 1, topic, payload, id
	return p
}

// acknowledge answers a publication.
func (s *session) acknowledge(p *packets.PublishPacket) error {
	ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
	ack.MessageID = p.MessageID
	return ack.Write(s.conn)
}

func (s *session) close() { _ = s.conn.Close() } // nothing is owed any more

// connectAll connects all, a few at a time; on an error none is left.
func connectAll(ctx context.Context, all []client, addr string) ([]*session, error) {
	out, errs := make([]*session, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	turns := make(chan struct{}, 16)
	for i, c := range all {
		turns <- struct{}{}
		wg.Go(func() {
			out[i], errs[i] = c.connect(ctx, addr)
			<-turns
		})
	}
	wg.Wait()
	// One cause is enough to read: the others are the same.
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		closeAll(out)
		return nil, errs[i]
	}
	return out, nil
}

func closeAll(all []*session) {
	for _, s := range all {
		if s != nil {
			s.close()
		}
	}
}

// pour publishes payloads with up to window of them unacknowledged, and returns after the last PUBACK.
func (s *session) pour(ctx context.Context, topic string, payloads [][]byte, window int) error {
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	slots, acks := make(chan struct{}, window), make(chan error, 1)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		acks <- s.awaitAcks(len(payloads), slots)
	}()
	var err error
	for i, payload := range payloads {
		select {
		case slots <- struct{}{}:
			err = publication(topic, payload, uint16(i%65535+1)).Write(s.conn)
		case <-gone:
			return <-acks
		}
		if err != nil {
			s.close()
			break
		}
	}
	return errors.Join(err, <-acks)
}

func (s *session) awaitAcks(n int, slots <-chan struct{}) error {
	for range n {
		p, err := packets.ReadPacket(s.conn)
		if err != nil {
			return fmt.Errorf("read PUBACK: %w", err)
		}
		if _, ok := p.(*packets.PubackPacket); !ok {
			return fmt.Errorf("read PUBACK: got %v", p)
		}
		<-slots
	}
	return nil
}

// publish sends payloads one after the other, each after the PUBACK of the one before, and answers what comes meanwhile.
func (s *session) publish(ctx context.Context, topic string, payloads [][]byte) error {
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	for i, payload := range payloads {
		if err := publication(topic, payload, uint16(i+1)).Write(s.conn); err != nil {
			return err
		}
		for acked := false; !acked; {
			p, err := packets.ReadPacket(s.conn)
			if err != nil {
				return fmt.Errorf("read PUBACK: %w", err)
			}
			switch p := p.(type) {
			case *packets.PubackPacket:
				acked = true
			case *packets.PublishPacket:
				if err := s.acknowledge(p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
