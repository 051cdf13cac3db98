package enroll

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// clientBackdate lets a device or a broker whose clock runs a little behind accept a certificate at once.
const clientBackdate = time.Hour

// RSA keys outside these sizes are weak, or cost more to verify than an unauthenticated caller may ask for.
const (
	minRSABits = 2048
	maxRSABits = 4096
)

const cureCSR = "let skerry-edge make the key and the request; by hand: " +
	"`openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=device`"

// publicKey is a key that somebody has proved to hold.
type publicKey struct {
	key    crypto.PublicKey
	sha256 string // of SubjectPublicKeyInfo, hex
}

// readCSR checks a PKCS#10 request in PEM and returns the key that signed it. Nothing else in the request matters: the
// authority decides what a certificate says.
func readCSR(text string) (publicKey, error) {
	bad := func(format string, args ...any) (publicKey, error) {
		return publicKey{}, problem(http.StatusBadRequest, CodeCSR, cureCSR, "certificate request: "+format, args...)
	}
	if len(text) > api.MaxPEMBytes {
		return bad("%d bytes; wanted at most %d", len(text), api.MaxPEMBytes)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return bad("wanted one PEM block of type CERTIFICATE REQUEST")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return bad("something follows the PEM block")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return bad("%v", err)
	}
	if err := keyAllowed(csr.PublicKey); err != nil { // before the signature: its cost is the key's size
		return publicKey{}, err
	}
	if err := csr.CheckSignature(); err != nil {
		return bad("not signed by its own key: %v", err)
	}
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return publicKey{csr.PublicKey, hex.EncodeToString(sum[:])}, nil
}

func keyAllowed(key crypto.PublicKey) error {
	got := fmt.Sprintf("%T", key)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		got = "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		if bits >= minRSABits && bits <= maxRSABits {
			return nil
		}
		got = fmt.Sprintf("RSA of %d bits", bits)
	}
	return problem(http.StatusBadRequest, CodeCSRKey, cureCSR,
		"key is %s; wanted ECDSA P-256 or P-384, Ed25519, or RSA of %d to %d bits", got, minRSABits, maxRSABits)
}

// keyDigest is the digest by which a certificate's key is known.
func keyDigest(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// issueClient makes a client certificate for who, good from now for life.
func (r root) issueClient(who mqtt.Identity, key crypto.PublicKey, now time.Time,
	life time.Duration) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      who.Subject(),
		URIs:         []*url.URL{who.URI()},
		NotBefore:    later(now.Add(-clientBackdate), r.cert.NotBefore).UTC().Truncate(time.Second),
		NotAfter:     earlier(now.Add(life), r.cert.NotAfter).UTC().Truncate(time.Second),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if !template.NotAfter.After(template.NotBefore) {
		return nil, fmt.Errorf("issue certificate for %s: the CA expired at %s", who.CommonName(),
			r.cert.NotAfter.Format(time.RFC3339))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, r.cert, key, r.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", who.CommonName(), err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", who.CommonName(), err)
	}
	return cert, nil
}

func recordOf(cert *x509.Certificate, now time.Time) certRecord {
	sum := sha256.Sum256(cert.Raw)
	return certRecord{Serial: cert.SerialNumber.Text(16), SHA256: hex.EncodeToString(sum[:]), Issued: api.At(now),
		NotAfter: api.At(cert.NotAfter), DER: cert.Raw}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
