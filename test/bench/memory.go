package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/mqtt"
)

const (
	connectionBudget = 45 // KiB, of each idle connection
	// settle is how long the cluster agent gets after start and connects; calm after a storm, what a storm took.
	settle, calm = 5 * time.Second, 150 * time.Second
	stormBatches = 20 // of each node
)

// memory divides what idle connections add to the cluster agent by their number, twice: as they are just after CONNECT,
// and as those of nodes that came all at once, subscribed, published, and then fell silent. Enrolment comes before the
// first look, and a storm before the second one's, so that what is kept of each node and its series is not counted.
func memory(ctx context.Context, o options) ([]row, error) {
	s, err := newSite(ctx, o, "memory")
	if err != nil {
		return nil, err
	}
	defer s.stop()
	all, err := s.enroll(ctx, "idle", o.connections)
	if err != nil {
		return nil, err
	}
	none, err := s.resident(ctx, settle)
	if err != nil {
		return nil, err
	}
	connected, err := s.during(ctx, all, settle, func(context.Context, []*session) error { return nil })
	if err != nil {
		return nil, err
	}
	rows := []row{each("cluster RSS per idle connection", len(all), none, connected)}
	if err := besideMosquitto(ctx, o, all, &rows[0]); err != nil {
		return rows, err
	}
	var rss [2]float64 // after each storm: the first one's nodes leave first
	for i := range rss {
		storm := func(ctx context.Context, sessions []*session) error { return s.storm(ctx, all, sessions, i) }
		if rss[i], err = s.during(ctx, all, calm, storm); err != nil {
			return rows, err
		}
		if i == 0 {
			if none, err = s.resident(ctx, calm); err != nil {
				return rows, err
			}
		}
	}
	r := each("the same of nodes, after a storm", len(all), none, rss[1])
	r.Note += fmt.Sprintf("; %d batches from each, then silence for %s", stormBatches, calm)
	return append(rows, r), nil
}

func each(what string, n int, before, after float64) row {
	r := atMost(what, (after-before)/float64(n)/kib, connectionBudget, "KiB")
	r.Note = fmt.Sprintf("%d connections over mutual TLS; RSS %.0f MiB before, %.0f MiB with them", n, before/mib, after/mib)
	return r
}

// besideMosquitto puts what a connection takes of mosquitto beside r: as many, under the same names.
func besideMosquitto(ctx context.Context, o options, all []client, r *row) error {
	m, addr, p, err := mosquitto(ctx, filepath.Join(o.dir, "memory-mosquitto"))
	if err != nil {
		return err
	}
	defer m.stop()
	theirs := make([]client, len(all))
	for i, c := range all {
		theirs[i] = client{id: c.id, tls: p.client}
	}
	none, err := m.resident(ctx, settle)
	if err != nil {
		return err
	}
	sessions, err := connectAll(ctx, theirs, addr)
	if err != nil {
		return fmt.Errorf("connect to mosquitto: %w", err)
	}
	defer closeAll(sessions)
	connected, err := m.resident(ctx, settle)
	if err != nil {
		return err
	}
	reference := (connected - none) / float64(len(all)) / kib
	r.Reference, r.Note = &reference, r.Note+"; reference: mosquitto"
	return nil
}

// during connects all, does something with them, waits, and returns the RSS before they leave.
func (s *site) during(ctx context.Context, all []client, wait time.Duration, do func(context.Context, []*session) error) (float64, error) {
	addr, err := s.broker()
	if err != nil {
		return 0, err
	}
	sessions, err := connectAll(ctx, all, addr)
	if err != nil {
		return 0, err
	}
	defer closeAll(sessions)
	if err := do(ctx, sessions); err != nil {
		return 0, err
	}
	return s.resident(ctx, wait)
}

// resident waits, and returns the RSS in bytes.
func (p *process) resident(ctx context.Context, wait time.Duration) (float64, error) {
	if !agent.Wait(ctx, wait) {
		return 0, ctx.Err()
	}
	return procBytes(p.pid(), "status", "VmRSS:")
}

// storm has all nodes subscribe to what a node agent does, and publish, at the same time.
func (s *site) storm(ctx context.Context, all []client, sessions []*session, round int) error {
	codec, err := mqtt.NewCodec()
	if err != nil {
		return err
	}
	work, err := newLoad(codec, time.Now().Add(-time.Minute), round, stormBatches)
	if err != nil {
		return err
	}
	topics, errs := s.topics(), make([]error, len(all))
	var wg sync.WaitGroup
	for i, c := range all {
		wg.Go(func() { errs[i] = sessions[i].behave(ctx, topics, c.id, work[i%len(work)]) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("storm: %w", err) // one cause is enough to read
		}
	}
	return nil
}

// behave subscribes to what a node agent does and publishes batches, one after the other.
func (s *session) behave(ctx context.Context, topics mqtt.Topics, node string, batches [][]byte) error {
	for _, filter := range []string{topics.Filter(mqtt.KindCmd, node), topics.Of(mqtt.KindDesired, node, ""),
		topics.Of(mqtt.KindAck, node, ""), topics.Filter(mqtt.KindStreamDown, node)} {
		if err := s.subscribe(filter); err != nil {
			return err
		}
	}
	return s.publish(ctx, topics.Of(mqtt.KindTele, node, ""), batches)
}
