package edge

import (
	"context"
	"fmt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/mqtt"
)

// onDesired takes a new desired document: it is kept, its configuration applied and its workloads run. Of policies this version
// says that it has no engine for them.
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
	a.follows(&d)
	a.event(api.ClassEvent, "desired.accepted", "", fmt.Sprintf("generation %d", d.Generation))
	a.oweReport()
	return nil
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
	a.follows(&d) // a crash may have come between keeping the document and applying it
	return nil
}

// follows has everything be as a document says that is kept.
func (a *Agent) follows(d *api.Desired) {
	a.policies.Store(&d.Policies)
	a.desired.Store(&api.Revision{Generation: d.Generation, Hash: d.Hash})
	a.settings.desire(d)
	a.updates.wish.set(d.Agent)
	a.workloads.Want(d.Workloads)
}
