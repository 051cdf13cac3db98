package enroll

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

const (
	defaultOperatorTTL = 365 * 24 * time.Hour
	maxOperatorTTL     = 10 * 365 * 24 * time.Hour
	maxOperators       = 10_000
)

// OperatorSpec asks for an operator's certificate. CSR is PEM, made with the operator's own key. TTL 0 means a year.
type OperatorSpec struct {
	Name string
	Role api.Role
	CSR  string
	TTL  time.Duration
	By   string
}

// IssueOperator certifies an operator's key, for MQTT and for REST over mutual TLS. One name may have several.
func (s *Service) IssueOperator(spec OperatorSpec) (api.Operator, error) {
	bad := func(format string, args ...any) (api.Operator, error) {
		return api.Operator{}, problem(http.StatusBadRequest, CodeOperatorArgs, "", format, args...)
	}
	if spec.TTL == 0 {
		spec.TTL = defaultOperatorTTL
	}
	if err := api.ValidID("name", spec.Name); err != nil {
		return bad("%v", err)
	}
	if !api.RoleAdmin.Includes(spec.Role) {
		return bad("role %.40q: wanted viewer, operator or admin", spec.Role)
	}
	if spec.TTL < time.Minute || spec.TTL > maxOperatorTTL {
		return bad("ttl %s: wanted 1m to %s", spec.TTL, maxOperatorTTL)
	}
	key, err := readCSR(spec.CSR)
	if err != nil {
		return api.Operator{}, err
	}
	now := s.now()
	who := mqtt.Identity{Kind: mqtt.OperatorIdentity, Name: spec.Name, Role: spec.Role, Cluster: s.cfg.Cluster}
	cert, err := s.cfg.Authority.clientRoot().issueClient(who, key.key, now, spec.TTL)
	if err != nil {
		return api.Operator{}, err
	}
	c := recordOf(cert, now)
	op := api.Operator{Name: spec.Name, Role: spec.Role,
		Certificate: api.Certificate{SHA256: c.SHA256, NotAfter: c.NotAfter}}
	err = s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		if n := tx.Bucket([]byte(bucketOperators)).Inspect().KeyN; n >= maxOperators {
			return problem(http.StatusConflict, CodeOperatorArgs, "let old ones expire",
				"there are %d operator certificates; wanted at most %d", n, maxOperators)
		}
		return put(tx, bucketOperators, c.Serial, operatorRecord{op, c.Issued, spec.By})
	})
	if err != nil {
		return api.Operator{}, fmt.Errorf("issue operator certificate: %w", err)
	}
	s.cfg.Log.Info("operator certificate issued", agent.KeyOperator, spec.Name, agent.KeyBy, spec.By)
	op.PEM, op.CA = string(certPEM(cert.Raw)), string(s.cfg.Authority.BundlePEM())
	return op, nil
}

// ListOperators lists the operators' certificates that have not expired, newest first.
func (s *Service) ListOperators() ([]api.Operator, error) {
	var records []operatorRecord
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		return each(tx, bucketOperators, func(_ string, o operatorRecord) error {
			records = append(records, o)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list operators: %w", err)
	}
	slices.SortStableFunc(records, func(a, b operatorRecord) int { return cmp.Compare(b.Issued, a.Issued) })
	out := make([]api.Operator, len(records))
	for i, o := range records {
		out[i] = o.Operator
	}
	return out, nil
}

// RevokeOperator revokes the certificate with a SHA-256, or every one of a name. It returns how many it revoked.
func (s *Service) RevokeOperator(which, by string) (int, error) {
	now := s.now()
	s.tell.Lock()
	defer s.tell.Unlock()
	var gone []operatorRecord
	err := s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		found, serials := false, []string(nil)
		err := each(tx, bucketOperators, func(serial string, o operatorRecord) error {
			if o.Certificate.SHA256 != which && o.Name != which {
				return nil
			}
			found = true
			if !o.Revoked {
				gone, serials = append(gone, o), append(serials, serial)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !found {
			return notFound(CodeOperatorGone, "operator certificate", "operators", which)
		}
		for i, o := range gone {
			o.Revoked = true
			if err := put(tx, bucketOperators, serials[i], o); err != nil {
				return err
			}
			c := certRecord{Serial: serials[i], NotAfter: o.Certificate.NotAfter}
			if err := revoke(tx, "operator:"+o.Name, c, now, "revoked by "+by); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("revoke operator: %w", err)
	}
	for _, o := range gone {
		s.cfg.Nodes.Revoked(mqtt.Identity{Kind: mqtt.OperatorIdentity, Name: o.Name, Role: o.Role, Cluster: s.cfg.Cluster,
			SHA256: o.Certificate.SHA256, NotAfter: o.Certificate.NotAfter.Time()})
	}
	return len(gone), nil
}

// ownCertificate is what the cluster agent shows to an external broker.
type ownCertificate struct {
	tls    *tls.Certificate
	root   *x509.Certificate
	issued time.Time
}

// ClusterCertificate returns the cluster agent's own client certificate for an external broker. It is made anew at two
// thirds of its life; the key never leaves this process. Fit for tls.Config.GetClientCertificate.
func (s *Service) ClusterCertificate() (*tls.Certificate, error) {
	now, signer := s.now(), s.cfg.Authority.clientRoot()
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.own; o != nil && o.root == signer.cert && now.Sub(o.issued) < s.cfg.Life*2/3 && !now.Before(o.issued) {
		return o.tls, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make cluster key: %w", err)
	}
	who := mqtt.Identity{Kind: mqtt.ClusterIdentity, Name: cmp.Or(s.cfg.Replica, s.cfg.Cluster), Cluster: s.cfg.Cluster}
	cert, err := signer.issueClient(who, &key.PublicKey, now, s.cfg.Life)
	if err != nil {
		return nil, err
	}
	s.own = &ownCertificate{&tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, signer.cert,
		now}
	return s.own.tls, nil
}

func (s *Service) isOwn(cert *x509.Certificate) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own != nil && s.own.tls.Leaf.Equal(cert)
}
