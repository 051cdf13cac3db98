package enroll

import (
	"crypto/x509"
	"net/http"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// Renew issues a node a new certificate for the key of the one it presents, which TLS has proved that it holds. The one
// presented may have expired, by no more than the grace. It stays good for as long as it says: the reply may get lost.
func (s *Service) Renew(cert *x509.Certificate, r *api.RenewRequest) (*api.EnrollReply, error) {
	now := s.now()
	var n nodeRecord
	check := func(tx *bbolt.Tx) error {
		who, record, err := s.examine(tx, cert)
		if err != nil {
			return err
		}
		if who.Kind != mqtt.NodeIdentity {
			return problem(http.StatusForbidden, CodeCertKind, "ask an administrator for a new one",
				"certificate of %s is not a node's; only nodes renew their own", who.CommonName())
		}
		if over := now.Sub(cert.NotAfter); over > s.cfg.Grace {
			return problem(http.StatusForbidden, CodeCertGraceOver, cureRejoin,
				"certificate of node %q expired at %s, %s ago; it could be renewed within %s", who.Name,
				cert.NotAfter.Format(time.RFC3339), over.Round(time.Second), s.cfg.Grace)
		}
		n = record
		return nil
	}
	if err := s.cfg.DB.View(check); err != nil { // before the request is looked at: refusals are cheap
		return nil, err
	}
	key, err := readCSR(r.CSR)
	if err != nil {
		return nil, err
	}
	if key.sha256 != keyDigest(cert) {
		return nil, problem(http.StatusForbidden, CodeKeyMismatch, "sign the request with the key of the present "+
			"certificate; for a new key, "+cureRejoin, "certificate request has another key than the client certificate")
	}
	if s.current(n, now) == nil {
		err = s.cfg.DB.Update(func(tx *bbolt.Tx) error {
			if err := check(tx); err != nil { // anew: it may just have been removed
				return err
			}
			return s.certify(tx, &n, key, now)
		})
		if err != nil {
			return nil, err
		}
	}
	s.count("renewed")
	return s.deliver(n, now)
}
