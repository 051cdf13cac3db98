// Package enrolment fakes what a node meets when it enrols: a CA, and an enrolment service under it that answers as a
// test tells it to.
package enrolment

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// CA is a certificate authority. Its methods fail the test.
type CA struct {
	Cert *x509.Certificate

	t   testing.TB
	key *ecdsa.PrivateKey
}

// Span is how long a certificate is good.
type Span struct{ From, To time.Time }

// Around is the span from a day before at to 90 days after it.
func Around(at time.Time) Span { return Span{at.Add(-24 * time.Hour), at.Add(90 * 24 * time.Hour)} }

// NewCA makes a CA that is good for span.
func NewCA(t testing.TB, span Span) *CA {
	t.Helper()
	ca := &CA{t: t, key: newKey(t)}
	template := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: span.From, NotAfter: span.To,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca.Cert = ca.sign(template, template, &ca.key.PublicKey)
	return ca
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial() *big.Int {
	var raw [12]byte
	rand.Read(raw[:])
	return new(big.Int).SetBytes(raw[:])
}

func (ca *CA) sign(template, parent *x509.Certificate, public any) *x509.Certificate {
	ca.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return cert
}

// SHA256 is what a join string pins.
func (ca *CA) SHA256() string {
	sum := sha256.Sum256(ca.Cert.Raw)
	return hex.EncodeToString(sum[:])
}

// PEM is the CA's certificate as text.
func (ca *CA) PEM() string { return text(ca.Cert) }

// Pool trusts the CA.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// Server issues a server's certificate for names, which are host names and IP addresses. The CA is part of its chain.
func (ca *CA) Server(span Span, names ...string) tls.Certificate {
	ca.t.Helper()
	key := newKey(ca.t)
	template := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "server"}, NotBefore: span.From, NotAfter: span.To,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	leaf := ca.sign(template, ca.Cert, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Cert.Raw}, PrivateKey: key, Leaf: leaf}
}

// Client certifies the key of a certificate request, both PEM.
func (ca *CA) Client(span Span, csr string) string {
	ca.t.Helper()
	block, _ := pem.Decode([]byte(csr))
	if block == nil {
		ca.t.Fatalf("certificate request %q is not PEM", csr)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		ca.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial(), Subject: request.Subject, NotBefore: span.From, NotAfter: span.To,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	return text(ca.sign(template, ca.Cert, request.PublicKey))
}

func text(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}
