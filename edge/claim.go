package edge

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// obedience is whose orders the node takes where several cluster agents share a broker: those of the greatest claim that it
// ever saw, signed as all orders are. One that was cut off and has not noticed yet is then obeyed no more.
type obedience struct {
	mu  sync.Mutex
	top *api.Claim // replaced, never changed; nil: there never was one
}

// greatest is what the node obeys, nil while there was never a claim.
func (o *obedience) greatest() *api.Claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.top
}

// obey refuses an order that is signed with a smaller claim than one before, or with none after one. A greater claim is on
// flash before the order is taken; then what nobody has acknowledged is sent again: whoever claims the node, be it the one that
// had it before, did not listen until now.
func (a *Agent) obey(c *api.Claim) error {
	o := &a.obeys
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case c == nil && o.top == nil:
		return nil
	case c == nil:
		return fmt.Errorf("signed without a claim; wanted %d of %s or a greater one: %w", o.top.Term, o.top.Owner, mqtt.ErrDiscard)
	case o.top != nil && *c == *o.top:
		return nil
	case o.top != nil && c.Before(*o.top):
		return fmt.Errorf("signed with claim %d of %s; wanted %d of %s or a greater one: %w", c.Term, c.Owner, o.top.Term, o.top.Owner, mqtt.ErrDiscard)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := a.store.SetClaim(raw); err != nil {
		return err
	}
	if o.top == nil || o.top.Owner != c.Owner {
		a.log.Info("another cluster agent acts for this node", agent.KeyBy, c.Owner)
	}
	top := *c
	o.top = &top
	a.outbox.Again()
	select {
	case a.resendDue <- struct{}{}:
	default: // it is due already
	}
	return nil
}

// loadClaim restores what was obeyed before. One that is damaged is as none: a device that does not start for its sake would
// obey nobody.
func (a *Agent) loadClaim() error {
	raw, err := a.store.Claim()
	if err != nil || raw == nil {
		return err
	}
	var c api.Claim
	err = json.Unmarshal(raw, &c)
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		a.log.Error("kept claim is damaged; the first order that comes is obeyed", agent.KeyErr, err)
		return nil
	}
	a.obeys.mu.Lock()
	defer a.obeys.mu.Unlock()
	a.obeys.top = &c
	return nil
}
