package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/mqtt"
)

// onReplica takes a presence message.
func (s *share) onReplica(_ context.Context, m mqtt.Inbound) error {
	var r api.Replica
	topic, err := s.agent.topics.Parse(m.Topic)
	if err == nil {
		err = s.agent.codec.Open(s.orderKeys(), mqtt.KindReplica, m.Payload, &r)
	}
	if err == nil && (r.Replica != topic.Node || r.Cluster != s.agent.cfg.Cluster) {
		err = fmt.Errorf("presence of %s of cluster %s on the topic of %s", r.Replica, r.Cluster, topic.Node)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	s.mu.Lock()
	behind := s.board.Heard(&r, s.now())
	if behind > 0 {
		s.number = behind
	}
	s.mu.Unlock()
	s.poke()
	if behind > 0 { // this ends the session; the next one is beyond
		return fmt.Errorf("the broker knows replica %s under session %d: this machine's clock was put back, or another process has the same replica.name",
			s.name, behind)
	}
	return nil
}

// onAdmission takes what another replica tells of a node's enrolment.
func (s *share) onAdmission(ctx context.Context, m mqtt.Inbound) error {
	topic, err := s.agent.topics.Parse(m.Topic)
	if err == nil && len(m.Payload) == 0 { // cleared
		s.mu.Lock()
		delete(s.heard, topic.Node)
		s.mu.Unlock()
		return nil
	}
	var adm api.Admission
	if err == nil {
		err = s.agent.codec.Open(s.orderKeys(), mqtt.KindAdmission, m.Payload, &adm)
	}
	if err == nil && (adm.Node != topic.Node || adm.Cluster != s.agent.cfg.Cluster) {
		err = fmt.Errorf("admission of %s of cluster %s on the topic of %s", adm.Node, adm.Cluster, topic.Node)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	s.mu.Lock()
	s.heard[adm.Node] = adm.Revision // what the broker keeps now, be it less than what it kept before
	s.mu.Unlock()
	news, stale, err := s.agent.enroll.Merge(&adm)
	if stale {
		s.admitted(adm.Node)
	}
	if err != nil || !news {
		return err
	}
	defer s.changed()
	joined, err := s.agent.enroll.Admission(adm.Node)
	if err != nil {
		return err
	}
	if joined == nil || joined.Removed != 0 {
		return s.forget(ctx, adm.Node, adm.By)
	}
	return s.agent.registry.ReplaceLabels(adm.Node, joined.UserLabels)
}

// forget is the end of a node that another replica removed. It stays held until nodes are dealt out, which takes back what
// was subscribed to for it.
func (s *share) forget(ctx context.Context, node, by string) error {
	s.quit(node, fmt.Errorf("node %s was removed", node))
	if err := s.agent.registry.Remove(node, by); err != nil && !errors.Is(err, registry.ErrUnknown) {
		return err
	}
	if err := s.agent.journal.Abandon(node, "node was removed"); err != nil {
		return err
	}
	return s.agent.telemetry.DeleteNode(ctx, node)
}

// admitted is called when enrolment knows something new of a node: the other replicas have to hear of it.
func (s *share) admitted(node string) {
	s.mu.Lock()
	s.untold[node] = true
	s.mu.Unlock()
	s.changed()
}

// changed has nodes dealt out anew.
func (s *share) changed() {
	s.mu.Lock()
	s.dirty = true
	s.mu.Unlock()
	s.poke()
}

// tellAdmissions publishes what the others have to hear.
func (s *share) tellAdmissions(ctx context.Context, session *mqtt.Session) error {
	if err := s.lookForForgotten(); err != nil {
		return err
	}
	s.mu.Lock()
	nodes := slices.Sorted(maps.Keys(s.untold))
	s.mu.Unlock()
	nodes = nodes[:min(len(nodes), perRound)]
	for _, node := range nodes {
		s.mu.Lock()
		delete(s.untold, node) // before it is read: what changes from here on is told again
		s.mu.Unlock()
		if err := s.tellAdmission(ctx, session, node); err != nil {
			s.mu.Lock()
			s.untold[node] = true
			s.mu.Unlock()
			return err
		}
	}
	return nil
}

// lookForForgotten finds, once in a session, what the broker does not keep of what is known here, as after a restart of one
// that keeps nothing, or of this replica before it had told the others.
func (s *share) lookForForgotten() error {
	s.mu.Lock()
	due := !s.checked && s.now().Sub(s.since) > 2*s.board.Settle() // what it keeps has come by then; what is told twice does no harm
	s.checked = s.checked || due
	s.mu.Unlock()
	if !due {
		return nil
	}
	revisions, err := s.agent.enroll.Revisions()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for node, revision := range revisions {
		if s.heard[node] < revision {
			s.untold[node] = true
		}
	}
	return nil
}

func (s *share) tellAdmission(ctx context.Context, session *mqtt.Session, node string) error {
	adm, err := s.agent.enroll.Admission(node)
	if err != nil {
		return err
	}
	s.mu.Lock()
	known := s.heard[node]
	if adm == nil {
		delete(s.heard, node)
		s.mu.Unlock()
		if known == 0 {
			return nil
		}
		return session.Publish(ctx, s.agent.topics.Of(mqtt.KindAdmission, node, ""), nil, true) // of a tombstone that is of no use any more
	}
	s.heard[node] = max(known, adm.Revision)
	s.mu.Unlock()
	if adm.Revision <= known {
		return nil
	}
	signed, err := mqtt.Seal(s.agent.authority.OrderSigner(), mqtt.KindAdmission, adm)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(signed)
	if err != nil {
		return err
	}
	s.agent.log.Debug("admission told", agent.KeyNode, adm.Node)
	return session.Publish(ctx, s.agent.topics.Of(mqtt.KindAdmission, adm.Node, ""), payload, true)
}
