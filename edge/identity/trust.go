package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// PinError says that a server's chain does not hold the pinned CA.
type PinError struct {
	Seen   []string // SHA-256 of each certificate presented, leaf first
	Wanted string
}

// Error names both sides.
func (e *PinError) Error() string {
	last := "none"
	if len(e.Seen) > 0 {
		last = e.Seen[len(e.Seen)-1]
	}
	return fmt.Sprintf("server presents CA sha256 %s; wanted %s", last, e.Wanted)
}

// pinned returns a TLS client configuration that trusts exactly the chain under the CA with the given digest, which the
// server presents itself. Go's own verification is replaced, not skipped: it knows no pin and no clock floor.
func pinned(host, caSHA256 string, clock *agent.Clock) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         host,
		InsecureSkipVerify: true, // verified just below
		VerifyConnection: func(cs tls.ConnectionState) error {
			seen := make([]string, 0, len(cs.PeerCertificates))
			for _, cert := range cs.PeerCertificates {
				sum := sha256.Sum256(cert.Raw)
				seen = append(seen, hex.EncodeToString(sum[:]))
				if seen[len(seen)-1] == caSHA256 {
					pool := x509.NewCertPool()
					pool.AddCert(cert)
					return verify(cs, pool, host, clock)
				}
			}
			return &PinError{Seen: seen, Wanted: caSHA256}
		},
	}
}

// trusted returns a TLS client configuration that trusts pool, at the clock's time.
func trusted(host string, pool *x509.CertPool, clock *agent.Clock) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         host,
		InsecureSkipVerify: true, // verified just below
		VerifyConnection:   func(cs tls.ConnectionState) error { return verify(cs, pool, host, clock) },
	}
}

// verify checks the server's chain at the best known time. When the system clock is before what was told as past (no
// battery, no network time yet) the time is only known to be at least that, so a certificate that begins later is taken at
// its beginning: refusing it would lock the device out until a person sets its clock. So would refusing one that has ended
// by the best known time and is good by the machine's own clock: what the cluster agent once said may have been wrong, and
// only over this connection can it say better.
func verify(cs tls.ConnectionState, pool *x509.CertPool, host string, clock *agent.Clock) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("server presents no certificate")
	}
	leaf := cs.PeerCertificates[0]
	inter := x509.NewCertPool()
	for _, cert := range cs.PeerCertificates[1:] {
		inter.AddCert(cert)
	}
	good := func(now time.Time) error {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: inter, DNSName: host, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		return err
	}
	now := clock.Now()
	if !clock.Plausible() {
		now = latest(now, leaf.NotBefore)
	}
	err := good(now)
	if sys, plausible := clock.System(); err != nil && plausible {
		err = good(sys)
	}
	if err != nil {
		return fmt.Errorf("verify server certificate: %w", err)
	}
	clock.Raise(leaf.NotBefore)
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// BrokerTLS returns the client configuration of the MQTT link: the node's certificate, the cluster's CA, ALPN "mqtt".
// ServerName is left to the dialler.
func (id *Identity) BrokerTLS(host string, clock *agent.Clock) *tls.Config {
	return BrokerTLS(id.TLSCertificate(), id.pool, host, clock)
}

// BrokerTLS is Identity.BrokerTLS for who keeps only the certificate and a pool that may be shared: an Identity takes
// some ten KiB, which counts when there are ten thousand in one process.
func BrokerTLS(cert tls.Certificate, pool *x509.CertPool, host string, clock *agent.Clock) *tls.Config {
	cfg := trusted(host, pool, clock)
	cfg.Certificates = []tls.Certificate{cert}
	cfg.NextProtos = []string{"mqtt"}
	return cfg
}

// PinnedTLS returns the client configuration for a server known only by a join string.
func PinnedTLS(host, caSHA256 string, clock *agent.Clock) *tls.Config {
	return pinned(host, caSHA256, clock)
}

// SiteTLS returns the client configuration for the cluster agent's HTTPS listener: the node's certificate, the cluster's CA.
func (id *Identity) SiteTLS(host string, clock *agent.Clock) *tls.Config {
	cfg := trusted(host, id.pool, clock)
	cfg.Certificates = []tls.Certificate{id.TLSCertificate()}
	return cfg
}

// MirrorTLS returns the client configuration for a server of files that is no part of the cluster: what the system trusts, and the cluster's
// CA, for a site has no other of its own. It does not show the node's certificate.
func (id *Identity) MirrorTLS() *tls.Config {
	pool, err := x509.SystemCertPool()
	if err != nil { // a system without roots
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM([]byte(id.CA))
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}
