package enroll

import (
	"crypto/x509"
	"net/http"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

const (
	cureRejoin = "join again with a token made by `skerry token create --approval`, without the old certificate"
	cureRenew  = "renew it at POST /v1/renew; skerry-edge does so by itself"
)

// Authorize says whose certificate this is, and refuses with an *api.Problem one that is not of this authority,
// expired, revoked, or of a node that was removed or has another key now. A certificate from the future is accepted
// (see the package comment).
func (s *Service) Authorize(cert *x509.Certificate) (mqtt.Identity, error) {
	var who mqtt.Identity
	err := s.cfg.DB.View(func(tx *bbolt.Tx) (err error) {
		who, _, err = s.examine(tx, cert)
		return err
	})
	if err != nil {
		return mqtt.Identity{}, err
	}
	if now := s.now(); now.After(cert.NotAfter) {
		return mqtt.Identity{}, problem(http.StatusForbidden, CodeCertExpired, cureRenew,
			"certificate of %s expired at %s, %s ago",
			who.CommonName(), cert.NotAfter.Format(time.RFC3339), now.Sub(cert.NotAfter).Round(time.Second))
	}
	return who, nil
}

// examine checks everything about a certificate but whether it has expired. node is set when who is a node.
func (s *Service) examine(tx *bbolt.Tx, cert *x509.Certificate) (who mqtt.Identity, node nodeRecord, err error) {
	_, err = cert.Verify(x509.VerifyOptions{Roots: s.cfg.Authority.Pool(), CurrentTime: cert.NotBefore,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err == nil {
		who, err = mqtt.IdentityOf(cert)
	}
	if err != nil {
		return mqtt.Identity{}, node, untrusted(err.Error())
	}
	if who.Cluster != s.cfg.Cluster {
		return mqtt.Identity{}, node, untrusted("it is of cluster " + who.Cluster)
	}
	serial := cert.SerialNumber.Text(16)
	gone, found, err := get[revokedRecord](tx, bucketRevoked, serial)
	if err != nil {
		return mqtt.Identity{}, node, err
	}
	if found && who.Kind != mqtt.NodeIdentity {
		return mqtt.Identity{}, node, revokedProblem(who, gone)
	}
	switch who.Kind {
	case mqtt.NodeIdentity:
		node, err = admitted(tx, who, cert, gone)
	case mqtt.OperatorIdentity:
		_, found, err = get[operatorRecord](tx, bucketOperators, serial)
		if err == nil && !found {
			err = untrusted("it is not among the operators' certificates")
		}
	case mqtt.ClusterIdentity:
		if !s.isOwn(cert) {
			err = untrusted("it is not the one that this cluster agent uses")
		}
	}
	if err != nil {
		return mqtt.Identity{}, node, err
	}
	return who, node, nil
}

// admitted checks a node's certificate against its record: the most telling reason comes first.
func admitted(tx *bbolt.Tx, who mqtt.Identity, cert *x509.Certificate, gone revokedRecord) (nodeRecord, error) {
	n, found, err := get[nodeRecord](tx, bucketNodes, who.Name)
	switch {
	case err != nil:
		return n, err
	case !found:
		return n, problem(http.StatusForbidden, CodeNodeUnknown, cureRejoin, "node %q is not known here", who.Name)
	case n.Removed != 0:
		return n, problem(http.StatusForbidden, CodeNodeRemoved, cureRejoin, "node %q was removed by %s at %s",
			who.Name, n.By, n.Removed.Time().Format(time.RFC3339))
	case n.Key != keyDigest(cert):
		return n, problem(http.StatusForbidden, CodeCertReplaced, cureRejoin, "node %q has another key since %s",
			who.Name, n.Admitted.Time().Format(time.RFC3339))
	case gone.At != 0:
		return n, revokedProblem(who, gone)
	}
	return n, nil
}

func revokedProblem(who mqtt.Identity, r revokedRecord) *api.Problem {
	return problem(http.StatusForbidden, CodeCertRevoked, "ask an administrator for a new one",
		"certificate of %s was revoked at %s: %s", who.CommonName(), r.At.Time().Format(time.RFC3339), r.Reason)
}

func untrusted(why string) *api.Problem {
	return problem(http.StatusForbidden, CodeCertUntrusted, "use a certificate that this cluster issued",
		"certificate is not trusted: %s", why)
}
