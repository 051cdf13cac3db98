package enroll

import (
	"fmt"
	"maps"
	"slices"

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
		out = &api.Admission{Node: n.ID, Cluster: s.cfg.Cluster, Revision: max(n.Revision, 1), KeySHA256: n.Key, Enrolled: n.Enrolled,
			Admitted: n.Admitted, Labels: n.Labels, UserLabels: n.User, Removed: n.Removed, By: n.By}
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
		n.User = labels
		n.Revision++
		return put(tx, bucketNodes, node, n)
	})
	if err != nil {
		return fmt.Errorf("note labels of node %s: %w", node, err)
	}
	return nil
}

// Merge takes what another replica knows of a node, and reports whether that is news. The greater revision counts; of two
// that are equal and differ, as when two devices enrolled under one id at two replicas at once, the later key, so that all
// replicas come to the same. What is revoked by it is revoked here too.
func (s *Service) Merge(a *api.Admission) (news bool, err error) {
	s.tell.Lock()
	defer s.tell.Unlock()
	var n nodeRecord
	rekeyed := false
	err = s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		news, rekeyed = false, false
		old, found, err := get[nodeRecord](tx, bucketNodes, a.Node)
		if err != nil || found && !supersedes(a, &old) {
			return err
		}
		news = true
		n = nodeRecord{ID: a.Node, Key: a.KeySHA256, Enrolled: a.Enrolled, Admitted: a.Admitted, Labels: a.Labels, User: a.UserLabels, Removed: a.Removed,
			By: a.By, Revision: a.Revision}
		for _, c := range a.Certificates {
			n.Certs = append(n.Certs, certRecord{Serial: c.Serial, SHA256: c.SHA256, Issued: c.Issued, NotAfter: c.NotAfter})
		}
		if found {
			n.Token, n.Host = old.Token, old.Host
		}
		if rekeyed = found && old.Removed == 0 && old.Key != n.Key; rekeyed {
			if err := s.revokeAll(tx, old, s.now(), "key replaced"); err != nil {
				return err
			}
		}
		if n.Removed != 0 {
			if err := s.revokeAll(tx, n, n.Removed.Time(), "node removed"); err != nil {
				return err
			}
		} else if err := tx.Bucket([]byte(bucketKeys)).Put([]byte(n.Key), []byte(n.ID)); err != nil {
			return fmt.Errorf("write %s: %w", bucketKeys, err)
		}
		return put(tx, bucketNodes, n.ID, n)
	})
	if err != nil || !news {
		return news, err
	}
	if n.Removed != 0 || rekeyed {
		s.cfg.Nodes.Revoked(s.identity(n.ID))
	}
	if n.Removed != 0 {
		s.cfg.Log.Info("node removed by another replica", agent.KeyNode, n.ID, agent.KeyBy, n.By)
		return true, nil
	}
	return true, s.cfg.Nodes.Enrolled(s.nodeOf(n))
}

func supersedes(a *api.Admission, old *nodeRecord) bool {
	if mine := max(old.Revision, 1); a.Revision != mine {
		return a.Revision > mine
	}
	if a.Admitted != old.Admitted {
		return a.Admitted > old.Admitted
	}
	return a.KeySHA256 > old.Key
}

// Removed lists the nodes that have a tombstone, by id.
func (s *Service) Removed() ([]string, error) {
	var out []string
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		return each(tx, bucketNodes, func(id string, n nodeRecord) error {
			if n.Removed != 0 {
				out = append(out, id)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list removed nodes: %w", err)
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
