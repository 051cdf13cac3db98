package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

const echoNode = "echo-1"

func echoTopics() mqtt.Topics { return mqtt.Topics{Root: mqtt.DefaultRoot, Cluster: echoCluster} }

// echoBroker is a broker that asks nobody.
func echoBroker(p *papers, log io.Writer) (*broker.Broker, error) {
	return broker.New(broker.Config{Addr: "127.0.0.1:0", TLS: p.server, Topics: echoTopics(), Authorize: mqtt.IdentityOf,
		Handle: func(context.Context, broker.Inbound) error { return nil },
		Limits: broker.Limits{MessagesPerSecond: 1_000_000},
		Log:    slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
}

// echoTimes is the exchange of a command with nobody but the broker between: two clients, one sends back what the other
// sent. All are in this process.
func echoTimes(ctx context.Context, o options, n int) ([]float64, error) {
	dir := filepath.Join(o.dir, "echo")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p, err := newPapers(dir)
	if err != nil {
		return nil, err
	}
	b, err := echoBroker(p, o.say)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	select {
	case <-b.Ready():
	case err := <-ended:
		cancel()
		return nil, errors.Join(errors.New("broker ended"), err)
	}
	out, err := echo(ctx, b.Addr().String(), p, n)
	cancel()
	return out, errors.Join(err, <-ended)
}

func echo(ctx context.Context, addr string, p *papers, n int) ([]float64, error) {
	back, err := farEnd(ctx, addr, p)
	if err != nil {
		return nil, err
	}
	defer back.close()
	failed := make(chan error, 1)
	go func() { failed <- back.sendBack(unchanged) }()
	out, err := roundTrips(ctx, client{id: "there", tls: p.client}, addr,
		exchange{topics: echoTopics(), node: echoNode, ask: always(echoed)}, n)
	back.close()
	if cause := <-failed; err != nil {
		return nil, errors.Join(err, cause)
	}
	return out, nil
}

const echoed = `{"phase":"succeeded"}`

func unchanged(payload []byte) ([]byte, error) { return payload, nil }

// farEnd is the client that answers.
func farEnd(ctx context.Context, addr string, p *papers) (*session, error) {
	s, err := client{id: "back", tls: p.client}.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	if err := s.subscribe(echoTopics().Filter(mqtt.KindRequest, echoNode)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// sendBack answers what arrives on request/{id} on request/{id}/status, until the connection ends.
func (s *session) sendBack(answer func([]byte) ([]byte, error)) error {
	for id := uint16(1); ; {
		packet, err := packets.ReadPacket(s.conn)
		if err != nil {
			return err
		}
		p, ok := packet.(*packets.PublishPacket)
		if !ok {
			continue
		}
		payload, err := answer(p.Payload)
		if err != nil {
			return err
		}
		if err := errors.Join(publication(p.TopicName+"/status", payload, id).Write(s.conn), s.acknowledge(p)); err != nil {
			return err
		}
		id = id%65535 + 1
	}
}
