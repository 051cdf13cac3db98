package cluster

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/owner"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/mqtt"
)

// errNotOwner is why a replica orders a node nothing.
var errNotOwner = errors.New("this replica does not act for the node")

// onMessage takes a message about a node. What comes of one that was let go a moment ago is the next owner's: the node
// sends again what nobody acknowledged.
func (s *share) onMessage(ctx context.Context, m mqtt.Inbound) error {
	topic, err := s.agent.topics.Parse(m.Topic)
	if err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	s.mu.Lock()
	h, acting := s.held[topic.Node], s.board.Acting(s.now())
	held := h != nil
	if held && acting && topic.Kind == mqtt.KindState {
		h.stated = true
	}
	s.mu.Unlock()
	switch {
	case topic.Kind == mqtt.KindCmdStatus:
		return s.agent.receiveForeign(ctx, m) // whoever acts for the node, the journal that has the command wants to know
	case !held || !acting:
		return nil
	case topic.Kind == mqtt.KindDesired:
		return s.onDesired(topic.Node, m)
	}
	return s.agent.receiveForeign(ctx, m)
}

// orderKeys are the keys that all replicas sign with.
func (s *share) orderKeys() (keys []ed25519.PublicKey) {
	for _, k := range s.agent.authority.OrderKeys() {
		keys = append(keys, ed25519.PublicKey(k))
	}
	return keys
}

// onDesired takes the desired document that the broker keeps of a node: what another replica made of it is adopted, and its
// claim is one to supersede.
func (s *share) onDesired(node string, m mqtt.Inbound) error {
	if len(m.Payload) == 0 {
		return nil // cleared
	}
	var d api.Desired
	err := s.agent.codec.Open(s.orderKeys(), mqtt.KindDesired, m.Payload, &d)
	if err == nil && d.Node != node {
		err = fmt.Errorf("desired document of %s on the topic of %s", d.Node, node)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	taken, err := s.agent.registry.Adopt(&d)
	if errors.Is(err, registry.ErrInvalid) || errors.Is(err, registry.ErrUnknown) {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	} else if err != nil {
		return err
	}
	n, _ := s.agent.registry.Get(node)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[node]
	if h == nil {
		return nil
	}
	if m.Retained && !h.told { // one that is repeated once more says nothing of those that are still to come
		s.replay = s.now()
	}
	h.told = true
	if taken && n.Desired.Generation > d.Generation { // it has a number of its own now, which nobody was told
		h.met = 0
	}
	if d.Claim != nil && h.floor.Before(*d.Claim) && *d.Claim != h.claim {
		h.floor = *d.Claim
		if h.met > 0 && !m.Retained && h.claim.Before(h.floor) { // somebody claims it now: one of the two does not know of the other yet
			h.after = s.now().Add(s.board.Beat())
			s.agent.log.Warn("another replica acts for a node of this one", agent.KeyNode, node, agent.KeyBy, h.floor.Owner)
		}
	}
	s.poke()
	return nil
}

// giveUp waits no longer for desired documents that the broker does not keep: they did not come when it was asked again either. The
// documents of thousands of nodes come one after the other: for as long as any comes, others may.
func (s *share) giveUp() {
	var nodes []string
	quiet := s.now().Add(-s.board.Settle()) // nothing since
	s.mu.Lock()
	for node, h := range s.held {
		if !h.told && h.asked > 0 && !h.since.After(quiet) && !s.replay.After(quiet) {
			h.told = true
			nodes = append(nodes, node)
		}
	}
	s.mu.Unlock()
	s.agent.registry.Heard(nodes...)
}

// meetAll greets the nodes that wait for it.
func (s *share) meetAll(ctx context.Context) error {
	s.mu.Lock()
	var nodes []string
	for node, h := range s.held {
		if h.met == 0 || h.claim.Before(h.floor) {
			nodes = append(nodes, node)
		}
	}
	s.mu.Unlock()
	slices.Sort(nodes)
	began := s.now()
	for _, node := range nodes {
		if err := s.meet(ctx, node); err != nil {
			return err
		}
		if s.now().Sub(began) > lookEvery { // there may be thousands: the rest has its turn after a look around
			s.poke()
			return nil
		}
	}
	return nil
}

// meet claims a node and greets it, once for each of its sessions and each claim: when its birth is known, it is online, and
// the desired document that the broker keeps has come, or does not come.
func (s *share) meet(ctx context.Context, node string) error {
	n, ok := s.agent.registry.Get(node)
	if !ok || n.Birth == nil || n.Birth.Epoch != n.Epoch || n.Presence != api.PresenceOnline && n.Presence != api.PresenceDraining {
		return nil
	}
	now := s.now()
	s.mu.Lock()
	h := s.held[node]
	if h == nil || !s.board.Acting(now) || now.Before(h.after) {
		s.mu.Unlock()
		return nil
	}
	if !h.told {
		s.mu.Unlock()
		return nil
	}
	if b := n.Birth.Claim; b != nil && *b != h.claim && h.floor.Before(*b) {
		h.floor = *b
	}
	fresh := h.claim.Term == 0 || h.claim.Before(h.floor)
	if !fresh && h.met == n.Epoch {
		s.mu.Unlock()
		return nil
	}
	if fresh {
		h.claim = owner.Next(s.name, h.claim, h.floor)
	}
	h.met = n.Epoch
	s.mu.Unlock()
	s.agent.log.Debug("node claimed", agent.KeyNode, node, agent.KeyEpoch, n.Epoch)
	if n.Desired.Generation == 0 && n.Birth.Desired.Generation > 0 {
		// The node holds a document that neither this replica nor the broker has. An empty one would take away what it does.
		s.agent.acks.reset(node)
		s.agent.journal.OnNodeUp(node, n.Birth.Epoch, n.Birth.OpenCommands)
		return nil
	}
	err := s.agent.greet(ctx, node, n.Birth)
	if errors.Is(err, errNotOwner) { // it was let go, or the lease is over, in this moment: another time
		s.mu.Lock()
		h.met = 0
		s.mu.Unlock()
		return nil
	}
	return err
}

// claim is what orders to node are signed with.
func (s *share) claim(node string) (*api.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[node]
	if h == nil || h.met == 0 || !s.board.Acting(s.now()) {
		return nil, fmt.Errorf("order to node %s: %w", node, errNotOwner)
	}
	c := h.claim
	return &c, nil
}

// elsewhere is what to tell a caller who wants something of a node that another replica acts for, nil when this one does.
func (s *share) elsewhere(node string) error {
	n, ok := s.agent.registry.Get(node)
	if s.holds(node) || !ok {
		return nil
	}
	reason, cure := n.Reason, "try again in a moment"
	if n.Owner != nil && n.Owner.URL != "" {
		reason, cure = fmt.Sprintf("replica %s acts for it", n.Owner.Replica), "ask "+n.Owner.URL
	}
	return &api.Problem{Status: http.StatusMisdirectedRequest, Title: "another replica acts for the node", Code: "node_elsewhere",
		Detail: fmt.Sprintf("this is replica %s; of node %s: %s", s.name, node, reason), Cure: cure}
}

// holds reports whether this replica acts for node, and may.
func (s *share) holds(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[node] != nil && s.board.Acting(s.now())
}

// absent says in one line each which of names are not live; one that is not named any more is missed by nobody.
func absent(all []api.ReplicaStatus, names []string) (out []string) {
	for _, r := range all {
		if r.State != api.ReplicaLive && slices.Contains(names, r.Name) {
			out = append(out, fmt.Sprintf("replica %s is %s, and acts for no node: start it; the end of its open commands, and its telemetry, wait there",
				r.Name, r.State))
		}
	}
	return out
}

// status lists the replicas.
func (s *share) status() (out []api.ReplicaStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	nodes := map[string]int{}
	for _, n := range s.agent.registry.Nodes(registry.Selector{}) {
		if n.Owner != nil {
			nodes[n.Owner.Replica]++
		}
	}
	self := api.ReplicaStatus{Name: s.name, State: api.ReplicaLost, Nodes: nodes[s.name]}
	if s.board.Acting(now) {
		self.State = api.ReplicaLive
	}
	if all := s.agent.endpoints(s.agent.https.Addr()); len(all) > 0 {
		self.URL = all[0]
	}
	byName := map[string]api.ReplicaStatus{s.name: self}
	for _, r := range s.board.Others(now) {
		byName[r.Replica] = api.ReplicaStatus{Name: r.Replica, State: r.State, URL: r.URL, Nodes: nodes[r.Replica]}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}
