package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

const warmUps = 50

// series is something that is timed round after round, and its quantiles in each.
type series struct {
	quantiles
	what string
	take func(ctx context.Context, n int) ([]float64, error) // milliseconds
}

// command compares a ping of a node, asked for over MQTT and answered with its final state, with a message that is sent
// back at once: an echo through the same broker implementation over the same TLS, whose broker and ends are processes of
// their own, as those of a command are. A command is on disk before anybody is told of it, an echo is not: so the ratio that
// has a budget is taken with the state in memory, and what the disk adds is measured beside it. All take turns, so that they
// meet the same machine.
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
	ping := &series{what: "command round trip", take: fast.commands((*bed).ping)}
	echo := &series{what: "echo", take: fast.apart(plain)}
	bound := &series{what: "  and one transaction", take: fast.apart(stored)}
	beside := []*series{
		{what: "  state on this disk", take: o.commands((*bed).ping)},
		{what: "  over REST", take: fast.commands((*bed).pingREST)},
		{what: "  exec true, not safe", take: fast.commands((*bed).exec)},
		{what: "  exec true, state on this disk", take: o.commands((*bed).exec)},
		{what: "echo within one process", take: func(ctx context.Context, n int) ([]float64, error) { return echoTimes(ctx, o, n) }},
		{what: "  signed, verified, decoded", take: fast.apart(signed)},
		bound,
	}
	for range rounds {
		for _, s := range append([]*series{ping, echo}, beside...) {
			times, err := s.take(ctx, n)
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", s.what, err)
			}
			s.add(times)
		}
	}
	disk, err := fsyncs(o.dir, n)
	if err != nil {
		return nil, err
	}
	low := func(ratio, budget float64) bool { return ratio <= budget }
	p99 := row{What: "command round trip, p99", Measured: median(ping.p99), Unit: "ms",
		Note: fmt.Sprintf("medians of %d rounds of %d, state in memory; reference: echo between three processes", rounds, n)}
	rows := []row{beside50(ping, echo), explained(ratioOf(p99, median(echo.p99), 3, low), "ADR 28")}
	for _, s := range beside {
		rows = append(rows, beside50(s, echo), beside99(s, echo))
	}
	rows = append(rows, compared("command beside that bound, p50", ping.p50, bound.p50), compared("command beside that bound, p99", ping.p99, bound.p99))
	return append(rows, fact("fsync of 4 KiB, p50", quantile(disk, 0.5), "ms"), fact("fsync of 4 KiB, p99", quantile(disk, 0.99), "ms")), nil
}

func beside50(s, reference *series) row { return compared(s.what+", p50", s.p50, reference.p50) }
func beside99(s, reference *series) row { return compared(s.what+", p99", s.p99, reference.p99) }

// compared is a row that only informs, with its reference.
func compared(what string, measured, reference []float64) row {
	r := fact(what, median(measured), "ms")
	ref := median(reference)
	ratio := r.Measured / ref
	r.Reference, r.Ratio = &ref, &ratio
	return r
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

// bed is a cluster agent with one node agent, and somebody who may ask.
type bed struct {
	*site
	who  client
	addr string
}

const bedNode = "ping-1"

// commands gives times what it measures: a cluster agent and a node agent that have just started, with their state in o.dir.
func (o options) commands(times func(*bed, context.Context, int) ([]float64, error)) func(context.Context, int) ([]float64, error) {
	return func(ctx context.Context, n int) ([]float64, error) {
		s, err := newSite(ctx, o, fmt.Sprint("command-", time.Now().UnixNano()))
		if err != nil {
			return nil, err
		}
		defer s.stop()
		p, _, err := s.node(ctx, lite, bedNode, "10s")
		if err != nil {
			return nil, err
		}
		defer p.stop()
		b := &bed{site: s}
		if b.who, err = s.operator(ctx, "bench"); err != nil {
			return nil, err
		}
		if b.addr, err = s.broker(); err != nil {
			return nil, err
		}
		return times(b, ctx, n)
	}
}

// ping asks over MQTT.
func (b *bed) ping(ctx context.Context, n int) ([]float64, error) {
	return b.request(ctx, `{"verb":"ping","deadline":"20s"}`, n)
}

// exec asks for what either side has on disk before it does anything.
func (b *bed) exec(ctx context.Context, n int) ([]float64, error) {
	return b.request(ctx, `{"verb":"exec","args":{"argv":["/bin/true"]},"deadline":"20s"}`, n)
}

func (b *bed) request(ctx context.Context, body string, n int) ([]float64, error) {
	return roundTrips(ctx, b.who, b.addr, exchange{topics: b.topics(), node: bedNode, ask: always(body)}, n)
}

// errEnded says that a command has ended well.
var errEnded = errors.New("ended")

// pingREST asks as `skerry run ping --wait` does, on a connection that is there.
func (b *bed) pingREST(ctx context.Context, n int) ([]float64, error) {
	var out []float64
	for i := range n + warmUps {
		order := api.CommandRequest{ID: api.NewID(), Verb: "ping", Deadline: "20s"}
		begin := time.Now()
		var took time.Duration
		err := b.rest.Run(ctx, bedNode, order, func(e *api.RunEvent) error {
			took = time.Since(begin)
			switch {
			case e.Command == nil || !e.Command.Final:
				return nil
			case e.Command.Phase != api.PhaseSucceeded:
				return fmt.Errorf("ended %s", e.Command.Phase)
			}
			return errEnded
		})
		if !errors.Is(err, errEnded) {
			return nil, fmt.Errorf("run ping: %w", err)
		}
		if i >= warmUps {
			out = append(out, milliseconds(took))
		}
	}
	return out, nil
}

// exchange is what the near end asks, and what it does with the answer before its time counts.
type exchange struct {
	topics mqtt.Topics
	node   string
	ask    func(id string) ([]byte, error)
	hear   func(answer []byte) error // nil: nothing
}

func always(body string) func(string) ([]byte, error) {
	return func(string) ([]byte, error) { return []byte(body), nil }
}

// roundTrips publishes on request/{id} and waits for a final state on request/{id}/status, one after the other.
func roundTrips(ctx context.Context, who client, addr string, x exchange, n int) ([]float64, error) {
	s, err := who.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	if err := s.subscribe(x.topics.Filter(mqtt.KindRequestStatus, x.node)); err != nil {
		return nil, err
	}
	var out []float64
	for i := range n + warmUps {
		id := "bench-" + strconv.Itoa(i)
		begin := time.Now()
		if err := s.conn.SetReadDeadline(begin.Add(30 * time.Second)); err != nil {
			return nil, err
		}
		request, err := x.ask(id)
		if err != nil {
			return nil, fmt.Errorf("make request %s: %w", id, err)
		}
		if err := publication(x.topics.Of(mqtt.KindRequest, x.node, id), request, uint16(i+1)).Write(s.conn); err != nil {
			return nil, fmt.Errorf("publish request %s: %w", id, err)
		}
		took, err := s.awaitFinal(x, id, begin)
		if err != nil {
			return nil, fmt.Errorf("request %s: %w", id, err)
		}
		if i >= warmUps {
			out = append(out, milliseconds(took))
		}
	}
	return out, nil
}

func (s *session) awaitFinal(x exchange, id string, begin time.Time) (time.Duration, error) {
	topic := x.topics.Of(mqtt.KindRequestStatus, x.node, id)
	for {
		packet, err := packets.ReadPacket(s.conn)
		if err != nil {
			return 0, err
		}
		p, ok := packet.(*packets.PublishPacket)
		if !ok {
			continue // the PUBACK of the request
		}
		if x.hear != nil {
			if err := x.hear(p.Payload); err != nil {
				return 0, err
			}
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
