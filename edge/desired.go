package edge

import (
	"context"
	"fmt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/mqtt"
)

// onDesired takes a new desired document. In this version a node keeps it, applies its
// configuration, and says of workloads and policies that it has no runtime and no engine for them.
func (a *Agent) onDesired(_ context.Context, _ mqtt.Topic, payload []byte) error {
	var d api.Desired
	id := a.keeper.Current()
	if err := a.codec.Open(id.OrderPublicKeys(), mqtt.KindDesired, payload, &d); err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	if d.Node != id.Node {
		return fmt.Errorf("desired document is for %s: %w", d.Node, mqtt.ErrDiscard)
	}
	if err := a.obey(d.Claim); err != nil {
		return fmt.Errorf("desired generation %d: %w", d.Generation, err)
	}
	if d.Epoch == a.epoch.Load() { // retained by another broker, or late, it tells no time
		a.clock.Word(d.Epoch, d.Issued.Time())
		a.outbox.TimeKnown()
		if err := a.store.Begin(d.Issued.Time()); err != nil {
			a.log.Warn("journal not dated", agent.KeyErr, err) // until the next start it is
		}
	}
	current := a.desired.Load()
	if current != nil && d.Generation <= current.Generation {
		return nil // known, or older than what is in force
	}
	if a.clock.Cluster().After(d.Expires.Time()) {
		return fmt.Errorf("desired generation %d expired at %s: %w", d.Generation, d.Expires.Time(), mqtt.ErrDiscard)
	}
	if err := a.store.SetDesired(payload); err != nil {
		return err
	}
	a.desired.Store(&api.Revision{Generation: d.Generation, Hash: d.Hash})
	a.settings.desire(&d)
	a.event(api.ClassEvent, "desired.accepted", "", fmt.Sprintf("generation %d", d.Generation))
	a.oweReport()
	return nil
}

// oweReport has the reporter tell what became of the desired document or the settings.
func (a *Agent) oweReport() {
	select {
	case a.reportDue <- struct{}{}:
	default: // one report tells all
	}
}

// reporter publishes what the node made of a new desired document. Not the handler itself: the document may arrive while
// the session is still being announced, when nobody else can publish yet.
func (a *Agent) reporter(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.reportDue:
		}
		if a.line.AwaitUp(ctx) != nil {
			return nil
		}
		if err := a.report(ctx, a.line.Publish); err != nil && ctx.Err() == nil {
			a.log.Debug("report not sent; the next session begins with it", agent.KeyErr, err)
		}
	}
}

// loadDesired restores what was accepted before. A signature is checked again; expiry is not: what was accepted stays
// in force however long the node is alone.
func (a *Agent) loadDesired(id *identity.Identity) error {
	raw, err := a.store.Desired()
	if err != nil || raw == nil {
		return err
	}
	var d api.Desired
	if err := a.codec.Open(id.OrderPublicKeys(), mqtt.KindDesired, raw, &d); err != nil {
		a.log.Warn("kept desired document is not used", agent.KeyErr, err)
		return nil
	}
	a.desired.Store(&api.Revision{Generation: d.Generation, Hash: d.Hash})
	a.settings.desire(&d) // a crash may have come between keeping the document and applying it
	return nil
}

// report publishes what the node made of the desired document, if it has one.
func (a *Agent) report(ctx context.Context, publish publisher) error {
	raw, err := a.store.Desired()
	if err != nil || raw == nil {
		return err
	}
	var d api.Desired
	if err := a.codec.Open(a.keeper.Current().OrderPublicKeys(), mqtt.KindDesired, raw, &d); err != nil {
		return nil // said at the start
	}
	r := &api.Reported{Generation: d.Generation, Hash: d.Hash, Epoch: a.epoch.Load(), At: api.At(a.clock.Now()), Config: a.settings.report(),
		Workloads: []api.WorkloadStatus{}, Policies: []api.PolicyStatus{}}
	for _, w := range d.Workloads {
		r.Workloads = append(r.Workloads, api.WorkloadStatus{Name: w.Name, State: api.WorkloadRejected, Reason: "NoRuntime", Message: "this node has no runtime " + w.Runtime})
	}
	for _, p := range d.Policies {
		r.Policies = append(r.Policies, api.PolicyStatus{Name: p.Name, State: "rejected", Reason: "this node has no policy engine " + p.Kind})
	}
	payload, err := a.codec.Encode(mqtt.Encoding(a.encoding.Load()), r)
	if err != nil {
		return err
	}
	return publish(ctx, a.topic(mqtt.KindReported, ""), payload, true)
}
