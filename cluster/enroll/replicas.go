package enroll

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// Admission is what the other replicas have to know of a node, nil when it is not known here.
func (s *Service) Admission(node string) (*api.Admission, error) {
	var out *api.Admission
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		n, found, err := get[nodeRecord](tx, bucketNodes, node)
		if err != nil || !found {
			return err
		}
		out = &api.Admission{Node: n.ID, Cluster: s.cfg.Cluster, Revision: n.revision(), KeySHA256: n.Key, Enrolled: n.Enrolled,
			Admitted: n.Admitted, Labels: n.Labels, UserLabels: n.User, Labelled: n.Labelled, Removed: n.Removed, By: n.By}
		for _, c := range n.Certs {
			out.Certificates = append(out.Certificates, api.Issued{Serial: c.Serial, SHA256: c.SHA256, Issued: c.Issued, NotAfter: c.NotAfter})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read admission of node %s: %w", node, err)
	}
	return out, nil
}

// Label notes the labels that people gave a node, all of them, for the other replicas.
func (s *Service) Label(node string, labels map[string]string) error {
	err := s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		n, found, err := get[nodeRecord](tx, bucketNodes, node)
		if err != nil || !found || n.Removed != 0 || maps.Equal(n.User, labels) {
			return err
		}
		n.User, n.Labelled = labels, max(api.At(s.now()), n.Labelled+1)
		n.Revision++
		return put(tx, bucketNodes, node, n)
	})
	if err != nil {
		return fmt.Errorf("note labels of node %s: %w", node, err)
	}
	return nil
}

// Merge takes what another replica knows of a node. news says that it is more than was known here; stale, that what is
// known here, or what both make together, is more than what was told: the others have to hear it. What is revoked by it is
// revoked here too.
//
// Two replicas may have changed a record at once, so it is not enough that the greater revision counts: a removal could be
// undone by a renewal. Records are joined instead, whatever the order (join.go). An old tombstone whose certificates are of
// no use to anybody any more is not taken up again: it is stale, and Admission knows nothing of it.
func (s *Service) Merge(a *api.Admission) (news, stale bool, err error) {
	s.tell.Lock()
	defer s.tell.Unlock()
	var m merger
	err = s.cfg.DB.View(func(tx *bbolt.Tx) (err error) { // mostly it is no news: a session begins with all that the broker keeps
		m, err = s.merge(tx, admissionRecord(a))
		return err
	})
	if err == nil && m.write {
		err = s.cfg.DB.Update(func(tx *bbolt.Tx) error {
			if m, err = s.merge(tx, admissionRecord(a)); err != nil || !m.write {
				return err
			}
			return s.keepMerged(tx, m)
		})
	}
	if err != nil || !m.news {
		return m.news, m.stale, err
	}
	n := m.node
	if n.Removed != 0 || m.ended {
		s.cfg.Nodes.Revoked(s.identity(n.ID))
	}
	if n.Removed != 0 {
		s.cfg.Log.Info("node removed by another replica", agent.KeyNode, n.ID, agent.KeyBy, n.By)
		return true, m.stale, nil
	}
	return true, m.stale, s.cfg.Nodes.Merged(s.nodeOf(n))
}

// merger is what comes of a record that another replica told.
type merger struct {
	node  nodeRecord
	lost  *nodeRecord // is over by it; nil: none
	at    time.Time
	news  bool
	stale bool
	write bool
	ended bool // the key that was good here is not any more
}

func (s *Service) merge(tx *bbolt.Tx, told nodeRecord) (merger, error) {
	m := merger{node: told, at: s.now()}
	old, found, err := get[nodeRecord](tx, bucketNodes, told.ID)
	switch {
	case err != nil:
		return m, err
	case !found && s.forgettable(told, m.at):
		m.stale = true
		return m, nil
	case !found:
		m.news, m.write = true, true
		return m, nil
	}
	now := api.At(m.at)
	m.node, m.lost = joined(old, told, now)
	m.news, m.stale = !m.node.same(old, now), !m.node.same(told, now)
	m.node.Revision = max(old.revision(), told.revision())
	if m.stale && m.node.Revision == told.revision() {
		m.node.Revision++ // beyond what the broker keeps
	}
	m.write = m.news || m.lost != nil || m.node.Revision != old.revision()
	m.ended = old.Removed == 0 && (m.node.Removed != 0 || m.node.Key != old.Key)
	return m, nil
}

// keepMerged stores what came of it, and revokes what is over by it: all of a node that was removed, all of a device that
// lost its id.
func (s *Service) keepMerged(tx *bbolt.Tx, m merger) error {
	n := m.node
	if m.lost != nil {
		if err := s.revokeAll(tx, *m.lost, m.at, "key replaced"); err != nil {
			return err
		}
	}
	for len(n.Certs) > maxCerts {
		if err := revoke(tx, n.ID, n.Certs[0], m.at, "superseded"); err != nil {
			return err
		}
		n.Certs = n.Certs[1:]
	}
	if n.Removed != 0 {
		if err := s.revokeAll(tx, n, n.Removed.Time(), "node removed"); err != nil {
			return err
		}
	} else if err := tx.Bucket([]byte(bucketKeys)).Put([]byte(n.Key), []byte(n.ID)); err != nil {
		return fmt.Errorf("write %s: %w", bucketKeys, err)
	}
	return put(tx, bucketNodes, n.ID, n)
}

// Revisions are those of all nodes that are known, the removed ones among them: what a broker should keep admissions of.
func (s *Service) Revisions() (map[string]uint64, error) {
	out := map[string]uint64{}
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		return each(tx, bucketNodes, func(id string, n nodeRecord) error {
			out[id] = n.revision()
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list revisions of nodes: %w", err)
	}
	return out, nil
}

// Peers replaces the https URLs of the other replicas. Devices that are enrolled get them behind this one's own, so that they can
// renew at any; a join string does not have them, for its token is this one's alone.
func (s *Service) Peers(urls []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = slices.Clone(urls)
}

func (s *Service) withPeers(endpoints []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Concat(endpoints, s.peers)
	return all[:min(len(all), maxEndpoints)]
}
