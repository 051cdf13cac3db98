package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/owner"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/mqtt"
)

// deal gives each node to one of members, and takes or lets go of what changes hands here.
func (s *share) deal(ctx context.Context, session *mqtt.Session, members []string) error {
	s.mu.Lock()
	before := s.members
	s.dealt, s.members, s.dirty = session, members, false
	urls := map[string]string{}
	var peers []string
	for _, r := range s.board.Others(s.now()) {
		urls[r.Replica] = r.URL
		if r.URL != "" {
			peers = append(peers, r.URL)
		}
	}
	s.mu.Unlock()
	s.agent.enroll.Peers(peers)
	if len(before) > 0 && !slices.Equal(before, members) {
		s.agent.note(api.ClassEvent, "replicas.changed", s.name, fmt.Sprintf("live: %s; before: %s", strings.Join(members, ", "), strings.Join(before, ", ")))
	}
	owners, mine := map[string]*api.Owner{}, map[string]bool{}
	for _, n := range s.agent.registry.Nodes(registry.Selector{}) {
		name := owner.Of(members, n.ID)
		mine[n.ID] = name == s.name
		owners[n.ID] = &api.Owner{Replica: name, URL: urls[name], Here: mine[n.ID]}
	}
	gone, come, heard := s.hands(mine)
	s.letGo(gone, fmt.Errorf("another replica acts for this node now"))
	if err := session.Unsubscribe(ctx, s.filters(gone)...); err != nil {
		return err
	}
	if err := s.agent.registry.SetOwners(owners); err != nil {
		return err
	}
	s.agent.registry.Heard(heard...)
	if err := s.take(ctx, session, come); err != nil {
		return err
	}
	if len(gone)+len(come) > 0 {
		s.agent.log.Info("nodes dealt out", agent.KeyCount, len(owners), "taken", len(come), "released", len(gone))
	}
	return s.watch(ctx, session)
}

// hands is what changes hands: which nodes go, which come, and of which of the others it is known what they were told.
func (s *share) hands(mine map[string]bool) (gone, come, heard []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node := range s.held {
		if !mine[node] {
			gone = append(gone, node)
		}
	}
	for node := range mine {
		switch h := s.held[node]; {
		case !mine[node]:
		case h == nil:
			come = append(come, node)
		case h.told: // it may have been removed and enrolled again meanwhile
			heard = append(heard, node)
		}
	}
	slices.Sort(come)
	return gone, come, heard
}

// take subscribes to nodes. What the broker keeps of them comes after that.
func (s *share) take(ctx context.Context, session *mqtt.Session, come []string) error {
	s.mu.Lock()
	for _, node := range come {
		s.held[node] = &holding{}
		delete(s.watched, node)
	}
	s.mu.Unlock()
	if err := session.Subscribe(ctx, s.filters(come)...); err != nil {
		return err
	}
	s.asked(come)
	return nil
}

// filters is what has to be listened to for nodes: the desired document first, for what the node should be has to be known
// before it is greeted.
func (s *share) filters(nodes []string) []string {
	return s.each(nodes, append([]mqtt.Kind{mqtt.KindDesired}, s.agent.inbound()...))
}

// each is every kind of message of every node.
func (s *share) each(nodes []string, kinds []mqtt.Kind) (out []string) {
	for _, node := range nodes {
		for _, kind := range kinds {
			out = append(out, s.agent.topics.Filter(kind, node))
		}
	}
	return out
}

// letGo ends what is under way for nodes.
func (s *share) letGo(nodes []string, why error) {
	for _, node := range nodes {
		s.mu.Lock()
		delete(s.held, node)
		delete(s.watched, node)
		s.mu.Unlock()
		s.quit(node, why)
	}
}

// quit ends what is under way for node.
func (s *share) quit(node string, why error) {
	s.agent.journal.OnNodeDown(node, 0)
	s.agent.acks.reset(node)
	s.agent.streams.closeNode(node, why)
}

// releaseAll lets go of all nodes: this replica is cut off, or not sure that it is not.
func (s *share) releaseAll(ctx context.Context, session *mqtt.Session) {
	s.mu.Lock()
	nodes := slices.Collect(maps.Keys(s.held))
	live := s.dealt == session
	s.dealt, s.watched = nil, map[string]bool{}
	s.mu.Unlock()
	s.letGo(nodes, fmt.Errorf("this replica has lost touch with the broker"))
	if session != nil && live {
		if err := session.Unsubscribe(ctx, s.filters(nodes)...); err != nil && ctx.Err() == nil {
			session.End(err)
		}
	}
	owners := map[string]*api.Owner{}
	for _, n := range s.agent.registry.Nodes(registry.Selector{}) {
		owners[n.ID] = &api.Owner{}
	}
	if err := s.agent.registry.SetOwners(owners); err != nil && ctx.Err() == nil {
		s.agent.log.Error("owners of nodes not noted", agent.KeyErr, err)
	}
}

// watch listens to how commands end that are in this journal and whose nodes others act for by now. The journal that has a
// command keeps it to its end.
func (s *share) watch(ctx context.Context, session *mqtt.Session) error {
	nodes, err := s.agent.journal.Unheard(s.agent.clock.Now().Add(-s.agent.cfg.Commands.MaxDeadline))
	if err != nil {
		return err
	}
	var filters []string
	s.mu.Lock()
	for _, node := range nodes {
		if s.held[node] == nil && !s.watched[node] {
			s.watched[node] = true
			filters = append(filters, s.agent.topics.Filter(mqtt.KindCmdStatus, node))
		}
	}
	s.mu.Unlock()
	return session.Subscribe(ctx, filters...)
}
