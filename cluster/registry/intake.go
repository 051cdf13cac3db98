package registry

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// maxVerbSets bounds the shared lists of verbs. Beyond it sharing starts over; nodes keep what they have.
const maxVerbSets = 256

// update applies f to a node and, when that changed something, makes it durable. f runs under mu and must be quick.
func (r *Registry) update(id string, f func(n *node, now time.Time) error) error {
	now := r.cfg.Now()
	r.mu.Lock()
	n, err := r.find(id)
	if err == nil {
		err = f(n, now)
	}
	write := err == nil && n.version > n.durable
	r.mu.Unlock()
	if !write {
		return err
	}
	return r.persist(id)
}

// find returns the node id. Caller holds mu.
func (r *Registry) find(id string) (*node, error) {
	if !r.loaded {
		return nil, ErrNotLoaded
	}
	n := r.nodes[id]
	if n == nil || n.removed {
		return nil, fmt.Errorf("node %.63q: %w", id, ErrUnknown)
	}
	return n, nil
}

// OnState takes the state that node, or the broker for it, published. retained tells that the broker repeats what it
// was told before. Nobody may change s afterwards.
func (r *Registry) OnState(id string, s *api.State, retained bool) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("state of node %.63s: %w: %w", id, ErrInvalid, err)
	}
	return r.update(id, func(n *node, now time.Time) error {
		news, stale := n.facts.Take(s, now)
		if stale {
			r.stats.Stale++
			return nil
		}
		if news {
			n.touch()
		}
		if !retained && s.State != api.StateLost { // a last will is the broker's word
			n.see(now)
		}
		r.decide(n, now)
		return nil
	})
}

// OnBirth takes the self-description of a node. Nobody may change b afterwards.
func (r *Registry) OnBirth(id string, b *api.Birth, retained bool) error {
	if err := b.Validate(); err != nil {
		return fmt.Errorf("birth of node %.63s: %w: %w", id, ErrInvalid, err)
	}
	if b.Node != id || b.Cluster != r.cfg.Cluster {
		return fmt.Errorf("birth of node %.63s names node %s of cluster %s: %w", id, b.Node, b.Cluster, ErrInvalid)
	}
	key := verbKey(b)
	return r.update(id, func(n *node, now time.Time) error {
		if b.Epoch < n.facts.Epoch {
			r.stats.Stale++
			return nil
		}
		if !retained {
			n.see(now)
		}
		if n.birth == nil || !reflect.DeepEqual(n.birth, b) {
			r.compare(n, b, now)
			n.birth, n.facts.Epoch = r.share(b, key), b.Epoch
			n.declared()
			n.relabel()
			n.touch()
			n.birthAt = n.version
			r.publish(n)
		}
		n.born = true
		r.decide(n, now)
		return nil
	})
}

// compare tells a reboot from a restart of the agent from a broken link, by two births of different sessions. Copies of one card
// count their sessions in step: their births differ in the life alone.
func (r *Registry) compare(n *node, b *api.Birth, now time.Time) {
	was := n.birth
	if was == nil {
		return
	}
	r.watchTwin(n, life{was.Boot, was.Started}, life{b.Boot, b.Started}, now)
	if b.Epoch == was.Epoch {
		return
	}
	switch {
	case b.Boot != was.Boot:
		n.row.Reboots++
		r.tell(n, api.EventRecord{Kind: "node.rebooted", Message: "the machine was started anew: its boot id has changed"})
	case b.Started != was.Started:
		n.row.Restarts++
		r.tell(n, api.EventRecord{Kind: "node.restarted", Message: "the node agent was started anew"})
	case !n.born:
		// The link broke because this cluster agent was away.
	default:
		if n.flap.muted == 0 {
			r.tell(n, api.EventRecord{Kind: "node.reconnected", Message: "link lost and back"})
		} else {
			r.stats.EventsDamped++
		}
	}
	r.cfg.Log.Debug("new session", agent.KeyNode, n.row.ID, agent.KeyEpoch, b.Epoch, agent.KeyWait, now.Sub(was.At.Time()))
}

// verbKey is the digest of a birth's verbs; zero when there is nothing to share.
func verbKey(b *api.Birth) (key [32]byte) {
	if len(b.Verbs) == 0 {
		return key
	}
	raw, err := json.Marshal(b.Verbs)
	if err != nil {
		return key // a value JSON cannot say; it will fail to be stored and be told there
	}
	return sha256.Sum256(raw)
}

// share returns b with its verbs, the bulk of it, shared with every node that has the same ones. Caller holds mu.
func (r *Registry) share(b *api.Birth, key [32]byte) *api.Birth {
	if key == [32]byte{} {
		return b
	}
	verbs, ok := r.verbSets[key]
	if !ok {
		if len(r.verbSets) >= maxVerbSets {
			clear(r.verbSets)
		}
		verbs = b.Verbs
		r.verbSets[key] = verbs
	}
	shared := *b
	shared.Verbs = verbs
	return &shared
}

// OnReported takes what a node made of its desired document. Nobody may change rep afterwards.
func (r *Registry) OnReported(id string, rep *api.Reported, retained bool) error {
	if err := rep.Validate(); err != nil {
		return fmt.Errorf("report of node %.63s: %w: %w", id, ErrInvalid, err)
	}
	return r.update(id, func(n *node, now time.Time) error {
		if !retained {
			n.see(now)
		}
		switch {
		case n.reported != nil && rep.Epoch < n.reported.Epoch:
			r.stats.Stale++
		case n.reported == nil || !reflect.DeepEqual(n.reported, rep):
			n.reported = rep
			n.touch()
			n.reportedAt = n.version
			r.publish(n)
		}
		return nil
	})
}

// OnLink takes that a connection of node began or ended, where the broker tells. Each connection is told once when it
// begins and once when it ends, in whatever order two of them overlap.
func (r *Registry) OnLink(id string, up bool, reason string) error {
	return r.update(id, func(n *node, now time.Time) error {
		f := &n.facts
		f.LinkKnown = true
		switch {
		case up:
			if f.Links++; f.Links == 1 {
				f.LinkAt = now
			}
		case f.Links > 0:
			if f.Links--; f.Links == 0 {
				f.LinkAt = now
			}
			f.LinkReason = reason
		}
		r.decide(n, now)
		return nil
	})
}

// Seen notes that node itself sent something at at. It is cheap, and written to disk only now and then.
func (r *Registry) Seen(id string, at time.Time) {
	r.mu.RLock()
	n := r.nodes[id]
	settled := n != nil && !n.facts.LastSeen.IsZero() && !n.row.Standing.missing()
	if n != nil {
		raise(&n.seen, at)
	}
	r.mu.RUnlock()
	if n == nil || settled {
		return
	}
	r.mu.Lock() // the first of this run, or after a silence, may change the presence
	defer r.mu.Unlock()
	n.see(at)
	r.decide(n, r.cfg.Now())
}

// see notes a message of the node itself. Caller holds mu.
func (n *node) see(at time.Time) {
	raise(&n.seen, at)
	n.facts.LastSeen = latest(n.facts.LastSeen, at)
}

// OnBroker takes whether this cluster agent is in touch with its broker. It is not until it says so.
func (r *Registry) OnBroker(up bool) {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if up == r.self.Broker {
		return
	}
	r.self.Attended = r.selfNow(now).Attended
	r.self.Broker, r.self.BrokerAt = up, now
	for _, n := range r.nodes {
		r.decide(n, now)
	}
	r.poke()
}
