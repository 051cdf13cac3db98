package enroll

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"go.etcd.io/bbolt"
)

// CRL returns the revocation lists, one for each root, as PEM: what an external broker needs beside the bundle. A list
// has no useful end (it says the root's own): a broker must not close because the cluster agent is away for a while.
func (s *Service) CRL() ([]byte, error) {
	now := s.now()
	list := &x509.RevocationList{}
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		list.Number = new(big.Int).SetUint64(tx.Bucket([]byte(bucketRevoked)).Sequence() + 1)
		return each(tx, bucketRevoked, func(serial string, r revokedRecord) error {
			if now.After(r.NotAfter.Time()) {
				return nil
			}
			n, ok := new(big.Int).SetString(serial, 16)
			if !ok {
				return fmt.Errorf("serial %q of %s is not hexadecimal", serial, r.Subject)
			}
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
				x509.RevocationListEntry{SerialNumber: n, RevocationTime: r.At.Time()})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("make revocation list: %w", err)
	}
	out, err := s.cfg.Authority.signCRL(list)
	if err != nil {
		return nil, fmt.Errorf("make revocation list: %w", err)
	}
	return out, nil
}

// signCRL signs list with every root.
func (a *Authority) signCRL(list *x509.RevocationList) ([]byte, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var out []byte
	for _, r := range a.roots {
		list.ThisUpdate = later(a.cfg.Now().Add(-clientBackdate), r.cert.NotBefore).UTC().Truncate(time.Second)
		list.NextUpdate = r.cert.NotAfter
		der, err := x509.CreateRevocationList(rand.Reader, list, r.cert, r.key)
		if err != nil {
			return nil, err
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return out, nil
}
