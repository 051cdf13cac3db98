package enroll

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// The bounds of the queue for approval.
const (
	maxPending         = 1000
	maxPendingPerToken = 200
)

// maxCerts bounds the unexpired certificates of one node. Certificates are reissued early only when a root was rotated,
// so a node has about six.
const maxCerts = 32

// Enroll answers one enrolment request from the address from. An error that a device may see is an *api.Problem.
func (s *Service) Enroll(r *api.EnrollRequest, from string) (*api.EnrollReply, error) {
	key, err := checkRequest(r)
	if err != nil {
		return nil, err
	}
	a := applicant{request: r, key: key, from: from, now: s.now()}
	var p plan
	err = s.cfg.DB.View(func(tx *bbolt.Tx) (err error) { // refusals and waiting devices take no write lock
		p, err = s.decide(tx, a)
		return err
	})
	if err != nil {
		return nil, err
	}
	if p.action == wait {
		return s.pendingReply(p, a.now), nil
	}
	if r.CheckOnly { // a doctor asks, maybe with a key that it throws away: no use may be taken, no node may come of it
		return &api.EnrollReply{Status: api.EnrollIssued, Node: p.node.ID, Time: api.At(a.now)}, nil
	}
	if p.action == again && s.current(p.node, a.now) != nil {
		return s.handOver(a, p.node)
	}
	err = s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		if p, err = s.decide(tx, a); err != nil { // anew: somebody else may have taken the last use
			return err
		}
		return s.carryOut(tx, a, &p)
	})
	if err != nil {
		return nil, err
	}
	if _, bad := api.OwnLabels("labels", r.Labels); bad != nil && (p.action == queue || p.action == admit) {
		s.cfg.Log.Warn("labels of a device are left out", agent.KeyNode, p.node.ID, agent.KeyAddr, from, agent.KeyErr, bad)
	}
	switch p.action {
	case queue:
		s.cfg.Log.Info("device waits for approval", agent.KeyNode, p.node.ID, agent.KeyAddr, from)
		return s.pendingReply(p, a.now), nil
	case wait:
		return s.pendingReply(p, a.now), nil
	case admit:
		s.cfg.Log.Info("node enrolled", agent.KeyNode, p.node.ID, agent.KeyAddr, from)
	}
	return s.handOver(a, p.node)
}

// handOver delivers to an applicant, and tells it what it did not get.
func (s *Service) handOver(a applicant, n nodeRecord) (*api.EnrollReply, error) {
	reply, err := s.deliver(n, a.now)
	if err == nil {
		reply.Message = s.beside(a, n.ID)
	}
	return reply, err
}

// checkRequest checks what does not depend on the store.
func checkRequest(r *api.EnrollRequest) (publicKey, error) {
	if err := r.Validate(); err != nil {
		return publicKey{}, problem(http.StatusBadRequest, CodeBody, "", "%v", err)
	}
	for _, f := range []struct{ field, value string }{{"host.os", r.Host.OS}, {"host.kernel", r.Host.Kernel},
		{"host.arch", r.Host.Arch}, {"host.model", r.Host.Model}} {
		if len(f.value) > api.MaxLabelBytes {
			return publicKey{}, problem(http.StatusBadRequest, CodeBody, "", "%s has %d bytes; wanted at most %d",
				f.field, len(f.value), api.MaxLabelBytes)
		}
	}
	return readCSR(r.CSR)
}

// carryOut stores what was decided.
func (s *Service) carryOut(tx *bbolt.Tx, a applicant, p *plan) error {
	switch p.action {
	case wait:
		return nil
	case queue:
		return s.enqueue(tx, a, *p)
	case admit:
		n, _, err := s.install(tx, p.node.ID, a.key.sha256, p.token, a.now)
		if err != nil {
			return err
		}
		n.Labels, n.Host = p.token.labelled(a.request.Labels), a.request.Host
		p.node = n
	}
	return s.certify(tx, &p.node, a.key, a.now)
}

func (s *Service) enqueue(tx *bbolt.Tx, a applicant, p plan) error {
	id := pendingID(p.token.ID, a.key.sha256)
	total, same := 0, 0
	err := each(tx, bucketPending, func(key string, old pendingRecord) error {
		if key != id {
			total++
			if old.TokenID == p.token.ID {
				same++
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if total >= maxPending || same >= maxPendingPerToken {
		return problem(http.StatusServiceUnavailable, CodePendingFull,
			"approve or deny some of those listed by `skerry get enrollments`",
			"%d devices wait for approval, %d of them with this token; wanted fewer than %d and %d", total, same, maxPending,
			maxPendingPerToken)
	}
	return put(tx, bucketPending, id, pendingRecord{
		Enrollment: api.Enrollment{ID: id, Node: p.node.ID, KeySHA256: a.key.sha256, TokenID: p.token.ID, From: a.from,
			Requested: api.At(a.now), Rejoin: p.rejoin, Host: a.request.Host},
		Labels: a.request.Labels,
	})
}

// certify issues a certificate to n unless it has one that is as good as new, and stores n.
func (s *Service) certify(tx *bbolt.Tx, n *nodeRecord, key publicKey, now time.Time) error {
	if s.current(*n, now) != nil {
		return put(tx, bucketNodes, n.ID, *n)
	}
	cert, err := s.cfg.Authority.clientRoot().issueClient(s.identity(n.ID), key.key, now, s.cfg.Life)
	if err != nil {
		return err
	}
	kept := n.Certs[:0:0]
	for _, c := range n.Certs {
		if c.NotAfter.Time().After(now) {
			c.DER = nil
			kept = append(kept, c)
		}
	}
	for len(kept) >= maxCerts {
		if err := revoke(tx, n.ID, kept[0], now, "superseded"); err != nil {
			return err
		}
		kept = kept[1:]
	}
	n.Certs = append(kept, recordOf(cert, now))
	n.Revision++
	return put(tx, bucketNodes, n.ID, *n)
}

// current returns the newest certificate of n while it is as good as new: by the present root, with more than five
// sixths of its life ahead. A device that asks twice gets the same one.
func (s *Service) current(n nodeRecord, now time.Time) *x509.Certificate {
	if len(n.Certs) == 0 {
		return nil
	}
	newest := n.Certs[len(n.Certs)-1]
	age := now.Sub(newest.Issued.Time())
	if age < 0 || age > s.cfg.Life/6 {
		return nil
	}
	cert, err := x509.ParseCertificate(newest.DER)
	if err != nil || cert.CheckSignatureFrom(s.cfg.Authority.clientRoot().cert) != nil || keyDigest(cert) != n.Key {
		return nil
	}
	return cert
}

func (s *Service) identity(node string) mqtt.Identity {
	return mqtt.Identity{Kind: mqtt.NodeIdentity, Name: node, Cluster: s.cfg.Cluster}
}

// deliver tells the registry and makes the reply that hands over the newest certificate.
func (s *Service) deliver(n nodeRecord, now time.Time) (*api.EnrollReply, error) {
	if err := s.announce(n); err != nil {
		return nil, err
	}
	s.count("issued")
	reply := s.reply(now)
	reply.Status = api.EnrollIssued
	reply.Node = n.ID
	reply.Certificate = string(certPEM(n.Certs[len(n.Certs)-1].DER))
	return reply, nil
}

// announce tells the registry of n, unless somebody removed it or gave it another key since it was read.
func (s *Service) announce(n nodeRecord) error {
	s.tell.Lock()
	defer s.tell.Unlock()
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		newest, found, err := get[nodeRecord](tx, bucketNodes, n.ID)
		if err == nil && (!found || newest.Removed != 0 || newest.Key != n.Key) {
			err = problem(http.StatusForbidden, CodeNodeRemoved, cureRejoin, "node %q was removed this moment", n.ID)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := s.cfg.Nodes.Enrolled(s.nodeOf(n)); err != nil {
		return fmt.Errorf("register node %s: %w", n.ID, err)
	}
	return nil
}

func (s *Service) pendingReply(p plan, now time.Time) *api.EnrollReply {
	s.count("pending")
	return &api.EnrollReply{Status: api.EnrollPending, RetryAfterMillis: s.cfg.RetryAfter.Milliseconds(), Node: p.node.ID,
		Message: s.waits(p), Time: api.At(now)}
}

// waits says what a person has to decide about a device, and who has its id now.
func (s *Service) waits(p plan) string {
	if !p.rejoin {
		return "skerry get enrollments; skerry approve " + p.node.ID
	}
	return fmt.Sprintf("node %s is there already with another key, and is %s now; when this is that device, wiped, or takes its place: skerry approve %s, "+
		"which throws the other out; when not: give this one another id (node)", p.node.ID, cmp.Or(s.presence(p.node.ID), "maybe online"), p.node.ID)
}

func (s *Service) presence(node string) api.Presence {
	if s.cfg.Presence == nil {
		return ""
	}
	return s.cfg.Presence(node)
}

// reply has what every device must know of its cluster.
func (s *Service) reply(now time.Time) *api.EnrollReply {
	endpoints, brokers := s.addresses()
	return &api.EnrollReply{Cluster: s.cfg.Cluster, Root: s.cfg.Root, CA: string(s.cfg.Authority.BundlePEM()),
		MQTT:      brokers,
		Endpoints: s.withPeers(endpoints), OrderKeys: s.cfg.Authority.OrderKeys(), Time: api.At(now)}
}
