package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

const warmUps = 50

// command compares a ping of a node, asked for over MQTT and answered with its final state, with a message that is sent
// back at once, through the same broker implementation over the same TLS. A command is on disk before anybody is told of
// it, an echo is not: so the ratio that has a budget is taken with the state in memory, and what the disk adds is measured
// beside it. The two take turns, so that both meet the same machine.
func command(ctx context.Context, o options) ([]row, error) {
	n, rounds := 500, 5
	if o.short {
		n, rounds = 200, 3
	}
	fast := o
	if dir, err := os.MkdirTemp(inMemory, "skerry-bench-"); err == nil {
		fast.dir = dir
		defer os.RemoveAll(dir)
	}
	var software, stored, echoes quantiles
	for range rounds {
		for _, m := range []struct {
			into *quantiles
			take func(context.Context, options, int) ([]float64, error)
			o    options
		}{{&software, pingTimes, fast}, {&echoes, echoTimes, o}, {&stored, pingTimes, o}} {
			times, err := m.take(ctx, m.o, n)
			if err != nil {
				return nil, fmt.Errorf("measure round trips: %w", err)
			}
			m.into.add(times)
		}
	}
	disk, err := fsyncs(o.dir, n)
	if err != nil {
		return nil, err
	}
	low := func(ratio, budget float64) bool { return ratio <= budget }
	p50 := fact("command round trip, p50", median(software.p50), "ms")
	ref, ratio := median(echoes.p50), median(software.p50)/median(echoes.p50)
	p50.Reference, p50.Ratio = &ref, &ratio
	p99 := row{What: "command round trip, p99", Measured: median(software.p99), Unit: "ms",
		Note: fmt.Sprintf("medians of %d rounds of %d pings, state in memory; reference: echo", rounds, n)}
	return []row{p50, ratioOf(p99, median(echoes.p99), 3, low), fact("  state on this disk, p50", median(stored.p50), "ms"),
		fact("  state on this disk, p99", median(stored.p99), "ms"), fact("fsync of 4 KiB, p50", quantile(disk, 0.5), "ms"),
		fact("fsync of 4 KiB, p99", quantile(disk, 0.99), "ms")}, nil
}

// inMemory is a tmpfs on every Linux.
const inMemory = "/dev/shm"

// quantiles gathers those of several rounds.
type quantiles struct{ p50, p99 []float64 }

func (q *quantiles) add(times []float64) {
	q.p50 = append(q.p50, quantile(times, 0.5))
	q.p99 = append(q.p99, quantile(times, 0.99))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// fsyncs times the appending of n pages, each forced to disk.
func fsyncs(dir string, n int) ([]float64, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return nil, fmt.Errorf("measure fsync: %w", err)
	}
	defer f.Close()
	page := make([]byte, 4*kib)
	var out []float64
	for range n {
		begin := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, fmt.Errorf("measure fsync: %w", err)
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("measure fsync: %w", err)
		}
		out = append(out, milliseconds(time.Since(begin)))
	}
	return out, nil
}

func pingTimes(ctx context.Context, o options, n int) ([]float64, error) {
	s, err := newSite(ctx, o, fmt.Sprint("command-", time.Now().UnixNano()))
	if err != nil {
		return nil, err
	}
	defer s.stop()
	p, _, err := s.node(ctx, "ping-1", "10s")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	who, err := s.operator(ctx, "bench")
	if err != nil {
		return nil, err
	}
	addr, err := s.broker()
	if err != nil {
		return nil, err
	}
	request := []byte(`{"verb":"ping","deadline":"20s"}`)
	return roundTrips(ctx, who, addr, s.topics(), "ping-1", request, n)
}

// roundTrips publishes on request/{id} and waits for a final state on request/{id}/status, one after the other.
func roundTrips(ctx context.Context, who client, addr string, t mqtt.Topics, node string, request []byte, n int) ([]float64, error) {
	s, err := who.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	if err := s.subscribe(t.Filter(mqtt.KindRequestStatus, node)); err != nil {
		return nil, err
	}
	var out []float64
	for i := range n + warmUps {
		id := "bench-" + strconv.Itoa(i)
		begin := time.Now()
		if err := s.conn.SetReadDeadline(begin.Add(30 * time.Second)); err != nil {
			return nil, err
		}
		if err := publication(t.Of(mqtt.KindRequest, node, id), request, uint16(i+1)).Write(s.conn); err != nil {
			return nil, fmt.Errorf("publish request %s: %w", id, err)
		}
		took, err := s.awaitFinal(t.Of(mqtt.KindRequestStatus, node, id), begin)
		if err != nil {
			return nil, fmt.Errorf("request %s: %w", id, err)
		}
		if i >= warmUps {
			out = append(out, milliseconds(took))
		}
	}
	return out, nil
}

func (s *session) awaitFinal(topic string, begin time.Time) (time.Duration, error) {
	for {
		packet, err := packets.ReadPacket(s.conn)
		if err != nil {
			return 0, err
		}
		p, ok := packet.(*packets.PublishPacket)
		if !ok {
			continue // the PUBACK of the request
		}
		took := time.Since(begin)
		if err := s.acknowledge(p); err != nil {
			return 0, err
		}
		var st struct {
			Phase  api.Phase `json:"phase"`
			Reason string    `json:"reason"`
		}
		if err := json.Unmarshal(p.Payload, &st); err != nil {
			return 0, err
		}
		if p.TopicName != topic || !st.Phase.Final() {
			continue
		}
		if st.Phase != api.PhaseSucceeded {
			return 0, fmt.Errorf("ended %s: %s", st.Phase, st.Reason)
		}
		return took, nil
	}
}

// echoTimes is the same exchange with nobody but the broker between: two clients, one sends back what the other sent.
func echoTimes(ctx context.Context, o options, n int) ([]float64, error) {
	dir := filepath.Join(o.dir, "echo")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p, err := newPapers(dir)
	if err != nil {
		return nil, err
	}
	topics := mqtt.Topics{Root: mqtt.DefaultRoot, Cluster: echoCluster}
	b, err := broker.New(broker.Config{Addr: "127.0.0.1:0", TLS: p.server, Topics: topics,
		Authorize: mqtt.IdentityOf,
		Handle:    func(context.Context, broker.Inbound) error { return nil },
		Limits:    broker.Limits{MessagesPerSecond: 1_000_000}, Log: slog.New(slog.NewTextHandler(o.say, &slog.HandlerOptions{Level: slog.LevelWarn}))})
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
	out, err := echo(ctx, b.Addr().String(), p, topics, n)
	cancel()
	return out, errors.Join(err, <-ended)
}

func echo(ctx context.Context, addr string, p *papers, topics mqtt.Topics, n int) ([]float64, error) {
	back, err := client{id: "back", tls: p.client}.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer back.close()
	if err := back.subscribe(topics.Filter(mqtt.KindRequest, "echo-1")); err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	go func() { failed <- back.sendBack() }()
	out, err := roundTrips(ctx, client{id: "there", tls: p.client}, addr, topics, "echo-1",
		[]byte(`{"phase":"succeeded"}`), n)
	back.close()
	if cause := <-failed; err != nil {
		return nil, errors.Join(err, cause)
	}
	return out, nil
}

// sendBack publishes what arrives on request/{id} on request/{id}/status, until the connection ends.
func (s *session) sendBack() error {
	for id := uint16(1); ; {
		packet, err := packets.ReadPacket(s.conn)
		if err != nil {
			return err
		}
		p, ok := packet.(*packets.PublishPacket)
		if !ok {
			continue
		}
		if err := errors.Join(publication(p.TopicName+"/status", p.Payload, id).Write(s.conn), s.acknowledge(p)); err != nil {
			return err
		}
		id = id%65535 + 1
	}
}
