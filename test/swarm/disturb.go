package swarm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// forever is an absence that only Back ends.
const forever = -1

// disturbEvery is how often churn and sleep are looked after.
const disturbEvery = 200 * time.Millisecond

// disturb disconnects nodes at random and sends sleepers to sleep, until ctx ends.
func (s *Swarm) disturb(ctx context.Context) {
	owed := 0.0
	sleepAt := map[*node]time.Time{}
	for agent.Wait(ctx, disturbEvery) {
		if s.calm.Load() {
			continue
		}
		nodes := s.all()
		c := s.cfg.Profile.Churn
		owed += c.PerMinute * float64(len(nodes)) * disturbEvery.Minutes()
		for ; owed >= 1; owed-- {
			n := nodes[rand.IntN(len(nodes))]
			switch {
			case !n.up.Load():
			case rand.Float64() < c.Reset:
				s.stats.resets.Add(1)
				n.cut()
			default:
				s.stats.leaves.Add(1)
				n.leave(c.Away)
			}
		}
		s.sleepers(nodes, sleepAt)
	}
}

// sleepers sends to sleep who was awake for long enough.
func (s *Swarm) sleepers(nodes []*node, at map[*node]time.Time) {
	sl := s.cfg.Profile.Sleep
	if sl.Share == 0 {
		return
	}
	now := time.Now()
	for _, n := range nodes {
		switch {
		case n.share(1) >= sl.Share || !n.up.Load() || n.asleep.Load():
		case at[n].IsZero():
			at[n] = now.Add(rand.N(sl.Awake) + 1)
		case now.After(at[n]):
			at[n] = now.Add(sl.Asleep + sl.Awake)
			s.stats.sleeps.Add(1)
			n.flush()
			n.asleep.Store(true)
			n.leave(sl.Asleep)
		}
	}
}

// Hush has nobody measure while on: nodes that connect are then nothing but connections.
func (s *Swarm) Hush(on bool) { s.hushed.Store(on) }

// Name is the id of node i.
func (s *Swarm) Name(i int) string { return name(s.cfg.Profile.Prefix, i) }

// Ordered notes an order that others than Player gave, or a newer state of it: it belongs to the accounting.
func (s *Swarm) Ordered(o account.Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders[o.ID] = &o
}

// some returns a share of the nodes that were started.
func (s *Swarm) some(share float64) []*node {
	nodes := s.all()
	out := make([]*node, 0, len(nodes))
	for _, i := range rand.Perm(len(nodes))[:int(share*float64(len(nodes))+0.5)] {
		out = append(out, nodes[i])
	}
	return out
}

// Cut has a share of the nodes say goodbye and stay away until Back.
func (s *Swarm) Cut(share float64) {
	for _, n := range s.some(share) {
		s.stats.leaves.Add(1)
		n.leave(forever)
	}
}

// Reset tears the connections of a share of the nodes.
func (s *Swarm) Reset(share float64) {
	for _, n := range s.some(share) {
		if n.up.Load() {
			s.stats.resets.Add(1)
			n.cut()
		}
	}
}

// Back calls everybody back whom Cut sent away.
func (s *Swarm) Back() {
	for _, n := range s.all() {
		n.comeBack()
	}
}

// Drain ends measuring and disturbing, calls everybody back, and waits until the outboxes are empty and every command on
// a node has ended and been acknowledged.
func (s *Swarm) Drain(ctx context.Context, within time.Duration) error {
	s.calm.Store(true)
	s.schedule.stop()
	s.Back()
	for _, n := range s.all() {
		n.flush()
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		held, open := 0, 0
		for _, n := range s.all() {
			b := n.outbox.Backlog()
			held += b.Batches + b.Events
			n.mu.Lock()
			if n.engine != nil {
				c := n.engine.Counts()
				open += c.Open + c.Owed
			}
			n.mu.Unlock()
		}
		if held+open == 0 {
			return nil
		}
		if !agent.Wait(ctx, 200*time.Millisecond) {
			f := s.Figures()
			return fmt.Errorf("drain: after %s %d messages and %d commands are not acknowledged; %d of %d nodes are online", within, held, open,
				f.Online, f.Started)
		}
	}
}
