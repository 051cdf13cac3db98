package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// askAgain subscribes once more to what the broker keeps of nodes that are not known to be there, and has it repeat that
// [MQTT-3.8.4-3]. A broker should have either repeated a message or passed it on; but nats-server 2.15 looks for what it keeps before
// it begins to pass on, and one of a cluster may hear of a message after its subscribers: what is published in between is in neither,
// and for a node whose birth was it nobody would ever act. The second time the subscription stands, and nothing is in between.
func (s *share) askAgain(ctx context.Context, session *mqtt.Session) error {
	nodes := s.unclear()
	if len(nodes) == 0 {
		return nil
	}
	s.agent.log.Debug("the broker is asked again what it keeps", agent.KeyCount, len(nodes))
	if err := session.Subscribe(ctx, s.keptOf(nodes)...); err != nil {
		return err
	}
	s.asked(nodes)
	return nil
}

// asked notes that the broker was asked what it keeps of nodes.
func (s *share) asked(nodes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, node := range nodes {
		if h := s.held[node]; h != nil {
			h.since = s.now()
		}
	}
}

// unclear are nodes that it is time to ask for again, and notes that they were: after Settle of quiet, and then after twice as long as
// the time before, for as long as it matters. No more than perRound at once, those first that wait to be greeted.
func (s *share) unclear() []string {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.replay) < s.board.Settle() {
		return nil
	}
	var urgent, rest []string
	for node, h := range s.held {
		if h.clear || h.since.IsZero() || now.Sub(h.since) < s.patience(h) {
			continue
		}
		switch lacks, waits := s.lacks(node, h); {
		case !lacks:
			h.clear = true // what changes from here on is heard
		case waits:
			urgent = append(urgent, node)
		default:
			rest = append(rest, node)
		}
	}
	slices.Sort(urgent)
	slices.Sort(rest)
	nodes := append(urgent, rest...)
	nodes = nodes[:min(len(nodes), perRound)]
	for _, node := range nodes {
		s.held[node].asked++
	}
	return nodes
}

// patience is how long what the broker keeps may take to come before it is asked for again.
func (s *share) patience(h *holding) time.Duration { return s.board.Settle() << min(h.asked, 20) }

// lacks tells whether something of a node may have been missed: the first time whatever is not all there, as also a state may have been
// replaced unheard; then what has to come of a node that is there. One waits that is there, and is not greeted before it is known what
// it was told. Caller holds mu.
func (s *share) lacks(node string, h *holding) (lacks, waits bool) {
	n, ok := s.agent.registry.Get(node)
	if !ok {
		return false, false
	}
	here := n.Presence == api.PresenceOnline || n.Presence == api.PresenceDraining
	born := n.Birth != nil && n.Birth.Epoch == n.Epoch
	if h.asked == 0 {
		return !h.told || !here || !born, here && !h.told
	}
	return !h.stated || here && !born, false
}

// keptOf is what a broker keeps of nodes: as for filters, the desired document first.
func (s *share) keptOf(nodes []string) []string {
	kinds := []mqtt.Kind{mqtt.KindDesired}
	for _, e := range mqtt.Contract() {
		if e.Dir == mqtt.Up && e.Retain {
			kinds = append(kinds, e.Kind)
		}
	}
	return s.each(nodes, kinds)
}
