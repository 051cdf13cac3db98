package enroll

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"
)

const (
	rootLife = 15 * 365 * 24 * time.Hour
	// rootBackdate lets a device whose clock runs behind trust the root on its first day.
	rootBackdate = 24 * time.Hour
	maxRoots     = 4
	pemCert      = "CERTIFICATE"
	pemKey       = "PRIVATE KEY"
)

// root is a self-signed root and its key.
type root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// born is when the root was made.
func (r root) born() time.Time { return r.cert.NotBefore.Add(rootBackdate) }

// newRoot makes a root. Its name carries the digest of its key, so that two roots of one cluster are told apart by
// verifiers that look an issuer up by name.
func newRoot(cluster string, now time.Time) (root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return root{}, fmt.Errorf("make CA key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return root{}, fmt.Errorf("make CA key: %w", err)
	}
	id := sha256.Sum256(spki)
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject: pkix.Name{CommonName: "Skerry CA " + cluster + " " + hex.EncodeToString(id[:4]),
			Organization: []string{"skerry:ca"}, OrganizationalUnit: []string{cluster}},
		NotBefore:             now.Add(-rootBackdate).UTC().Truncate(time.Second),
		NotAfter:              now.Add(rootLife).UTC().Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          id[:20],
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return root{}, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return root{}, fmt.Errorf("make CA certificate: %w", err)
	}
	return root{cert, key}, nil
}

// newSerial returns a random positive serial number of 127 bits (RFC 5280 §4.1.2.2 wants at most 20 octets).
func newSerial() *big.Int {
	var raw [16]byte
	rand.Read(raw[:]) // never fails since Go 1.24
	raw[0] &= 0x7f
	raw[15] |= 1
	return new(big.Int).SetBytes(raw[:])
}

func encodeRoots(roots []root) []byte {
	var out []byte
	for _, r := range roots {
		out = append(out, certPEM(r.cert.Raw)...)
	}
	return out
}

func encodeRootKeys(roots []root) ([]byte, error) {
	var out []byte
	for _, r := range roots {
		der, err := x509.MarshalPKCS8PrivateKey(r.key)
		if err != nil {
			return nil, fmt.Errorf("encode CA key: %w", err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})...)
	}
	return out, nil
}

// load reads the files. Every root needs its key; a key without a root is left over from a rotation that was cut short.
func (a *Authority) load() error {
	certs, err := a.loadRoots()
	if err != nil {
		return a.broken(rootsFile, err)
	}
	keys, err := a.loadKeys(rootKeysFile)
	if err != nil {
		return a.broken(rootKeysFile, err)
	}
	roots := make([]root, 0, len(certs))
	for _, cert := range certs {
		key := keyOf(cert, keys)
		if key == nil {
			return a.broken(rootKeysFile, fmt.Errorf("holds no key of the certificate %q in %s", cert.Subject.CommonName,
				rootsFile))
		}
		roots = append(roots, root{cert, key})
	}
	blocks, err := a.loadPrivate(ordersFile)
	if err != nil {
		return a.broken(ordersFile, err)
	}
	orders, err := decodeOrders(blocks)
	if err != nil {
		return a.broken(ordersFile, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roots, a.orders = roots, orders
	return nil
}

func (a *Authority) loadRoots() ([]*x509.Certificate, error) {
	blocks, err := a.blocks(rootsFile, pemCert)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, b := range blocks {
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("damaged certificate: %w", err)
		}
		if !cert.IsCA || cert.CheckSignatureFrom(cert) != nil {
			return nil, fmt.Errorf("certificate %q is no self-signed CA", cert.Subject.CommonName)
		}
		if ou := cert.Subject.OrganizationalUnit; len(ou) != 1 || ou[0] != a.cfg.Cluster {
			return nil, fmt.Errorf("belongs to cluster %q, while the configuration names cluster %q", ou, a.cfg.Cluster)
		}
		if len(certs) == 0 && a.cfg.Now().After(cert.NotAfter) {
			return nil, fmt.Errorf("certificate %q expired at %s (or this machine's clock is wrong)",
				cert.Subject.CommonName, cert.NotAfter.Format(time.RFC3339))
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

func (a *Authority) loadKeys(name string) ([]*ecdsa.PrivateKey, error) {
	blocks, err := a.loadPrivate(name)
	if err != nil {
		return nil, err
	}
	var keys []*ecdsa.PrivateKey
	for _, b := range blocks {
		parsed, err := x509.ParsePKCS8PrivateKey(b.Bytes)
		if err != nil {
			return nil, errors.New("damaged private key") // the parser's error could tell of the key
		}
		key, ok := parsed.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("holds a %T; wanted ECDSA", parsed)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// loadPrivate reads a file of private keys, which nobody else may read. The group may: container platforms give volumes
// to a group.
func (a *Authority) loadPrivate(name string) ([]*pem.Block, error) {
	info, err := os.Stat(a.dir.path(name))
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, fmt.Errorf("mode is %#o, so that every user may use the key; run `chmod 600 %s`: %w", mode,
			a.dir.path(name), fs.ErrPermission)
	}
	return a.blocks(name, pemKey)
}

// blocks reads a PEM file that holds 1 to maxRoots blocks of one type and nothing else.
func (a *Authority) blocks(name, kind string) ([]*pem.Block, error) {
	data, err := a.dir.read(name)
	if err != nil {
		return nil, err
	}
	var out []*pem.Block
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != kind || len(out) == maxRoots {
			return nil, fmt.Errorf("damaged: wanted 1 to %d PEM blocks of type %s", maxRoots, kind)
		}
		out, data = append(out, block), rest
	}
	if len(out) == 0 {
		return nil, errors.New("empty")
	}
	return out, nil
}

func keyOf(cert *x509.Certificate, keys []*ecdsa.PrivateKey) *ecdsa.PrivateKey {
	for _, key := range keys {
		if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && pub.Equal(cert.PublicKey) {
			return key
		}
	}
	return nil
}
