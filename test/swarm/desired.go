package swarm

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// onDesired takes a new desired document and reports on it after the profile's delay.
func (n *node) onDesired(_ context.Context, m mqtt.Inbound) error {
	var d api.Desired
	s := n.swarm
	if err := s.codec.Open(s.orderKeys, mqtt.KindDesired, m.Payload, &d); err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	if d.Node != n.id {
		return fmt.Errorf("desired document is for %s: %w", d.Node, mqtt.ErrDiscard)
	}
	n.hear(&d)
	n.mu.Lock()
	defer n.mu.Unlock()
	if d.Generation <= n.desired.Generation {
		return nil
	}
	n.desired, n.heard = api.Revision{Generation: d.Generation, Hash: d.Hash}, time.Now()
	r := &api.Reported{Generation: d.Generation, Hash: d.Hash, Workloads: []api.WorkloadStatus{}, Policies: []api.PolicyStatus{},
		Config: api.ConfigStatus{State: "applied"}}
	refuses := n.share(3) < s.cfg.Profile.Workloads.Reject
	r.Workloads = append(r.Workloads, n.runs.take(n.id, d.Workloads, refuses, api.At(n.clock.Now()))...)
	n.report = r
	s.work.Go(func() { n.reportLater(r) })
	return nil
}

// hear takes the time from a document as a node agent does: from one of this session. One that was signed for a session
// before may come first, since the broker retains it, and its time is long past.
func (n *node) hear(d *api.Desired) {
	if d.Epoch == n.epoch.Load() {
		n.clock.Word(d.Epoch, d.Issued.Time())
		n.outbox.TimeKnown()
	}
}

// reportLater sends r once the link is up. When that fails the next session begins with it.
func (n *node) reportLater(r *api.Reported) {
	s := n.swarm
	ctx, cancel := context.WithTimeout(s.life, time.Minute)
	defer cancel()
	if !agent.Wait(ctx, s.cfg.Profile.Workloads.Delay) || n.link.Load().AwaitUp(ctx) != nil {
		return
	}
	if err := n.sendReport(ctx, n.link.Load().Publish); err != nil && s.life.Err() == nil {
		s.quiet.Debug("report not sent", agent.KeyNode, n.id, agent.KeyErr, err)
	}
}

// sendReport publishes the newest report, if there is one.
func (n *node) sendReport(ctx context.Context, publish publisher) error {
	n.mu.Lock()
	report := n.report // replaced, never changed
	n.mu.Unlock()
	if report == nil {
		return nil
	}
	r := *report
	r.Epoch, r.At = n.epoch.Load(), api.At(n.clock.Now())
	payload, err := n.encode(&r)
	if err != nil {
		return err
	}
	return publish(ctx, n.topic(mqtt.KindReported, ""), payload, true)
}

// Desired tells of every node that was started which document it has, and when that came.
func (s *Swarm) Desired() (generations []uint64, heard []time.Time) {
	for _, n := range s.all() {
		n.mu.Lock()
		generations, heard = append(generations, n.desired.Generation), append(heard, n.heard)
		n.mu.Unlock()
	}
	return generations, heard
}
