package enroll

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// nodeOf is the node as enrolment knows it.
func (s *Service) nodeOf(n nodeRecord) api.Node {
	out := api.Node{ID: n.ID, Cluster: s.cfg.Cluster, Presence: api.PresenceEnrolled,
		Reason: "has a certificate, has not connected yet",
		Since:  n.Admitted, Enrolled: n.Enrolled, Labels: n.Labels, KeySHA256: n.Key}
	if len(n.Certs) > 0 {
		newest := n.Certs[len(n.Certs)-1]
		out.Certificate = api.Certificate{SHA256: newest.SHA256, NotAfter: newest.NotAfter}
	}
	return out
}

func (n *nodeRecord) lastExpiry() api.Millis {
	var last api.Millis
	for _, c := range n.Certs {
		last = max(last, c.NotAfter)
	}
	return last
}

// Enrolled lists every node that is admitted, by id: what a registry that lost its own records starts from.
func (s *Service) Enrolled() ([]api.Node, error) {
	var out []api.Node
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		return each(tx, bucketNodes, func(_ string, n nodeRecord) error {
			if n.Removed == 0 {
				out = append(out, s.nodeOf(n))
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list enrolled nodes: %w", err)
	}
	return out, nil
}

// Remove revokes every certificate of a node and frees its id and its key. A tombstone stays until the last of the
// certificates could not be renewed any more.
func (s *Service) Remove(node, by string) error {
	now := s.now()
	s.tell.Lock()
	defer s.tell.Unlock()
	err := s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		n, found, err := get[nodeRecord](tx, bucketNodes, node)
		if err != nil {
			return err
		}
		if !found || n.Removed != 0 {
			return notFound(CodeNodeUnknown, "node", "nodes", node)
		}
		n.Removed, n.By = max(api.At(now), n.Admitted), by // by a clock that may be behind another replica's
		n.Revision++
		if err := s.revokeAll(tx, n, now, "node removed"); err != nil {
			return err
		}
		return put(tx, bucketNodes, node, n)
	})
	if err != nil {
		return fmt.Errorf("remove node: %w", err)
	}
	s.cfg.Log.Info("node removed", agent.KeyNode, node, agent.KeyBy, by)
	s.cfg.Nodes.Revoked(s.identity(node))
	return nil
}

// revokeAll revokes every certificate of n and frees its key.
func (s *Service) revokeAll(tx *bbolt.Tx, n nodeRecord, now time.Time, reason string) error {
	for _, c := range n.Certs {
		if err := revoke(tx, n.ID, c, now, reason); err != nil {
			return err
		}
	}
	keys := tx.Bucket([]byte(bucketKeys))
	if string(keys.Get([]byte(n.Key))) != n.ID {
		return nil // the device is another node by now
	}
	if err := keys.Delete([]byte(n.Key)); err != nil {
		return fmt.Errorf("delete %s: %w", bucketKeys, err)
	}
	return nil
}

// revoke notes a certificate as revoked. The bucket's sequence is the number of the revocation list.
func revoke(tx *bbolt.Tx, subject string, c certRecord, now time.Time, reason string) error {
	if _, err := tx.Bucket([]byte(bucketRevoked)).NextSequence(); err != nil {
		return fmt.Errorf("number revocation: %w", err)
	}
	return put(tx, bucketRevoked, c.Serial, revokedRecord{Subject: subject, At: api.At(now), NotAfter: c.NotAfter,
		Reason: reason})
}

// Expiry is when somebody's certificate ends. Kind is node, operator or ca.
type Expiry struct {
	Kind     string
	Name     string
	NotAfter time.Time
}

// Expiries lists the ends of all certificates in use, soonest first: of a node its newest one.
func (s *Service) Expiries() ([]Expiry, error) {
	var out []Expiry
	for _, r := range s.cfg.Authority.Roots() {
		out = append(out, Expiry{"ca", r.Subject.CommonName, r.NotAfter})
	}
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		err := each(tx, bucketNodes, func(id string, n nodeRecord) error {
			if n.Removed == 0 && len(n.Certs) > 0 {
				out = append(out, Expiry{"node", id, n.Certs[len(n.Certs)-1].NotAfter.Time()})
			}
			return nil
		})
		if err != nil {
			return err
		}
		return each(tx, bucketOperators, func(_ string, o operatorRecord) error {
			if !o.Revoked {
				out = append(out, Expiry{"operator", o.Name, o.Certificate.NotAfter.Time()})
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list expiries: %w", err)
	}
	slices.SortStableFunc(out, func(a, b Expiry) int { return a.NotAfter.Compare(b.NotAfter) })
	return out, nil
}
