package enroll

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// serverLife is how long a listener's certificate is good; it is made anew at two thirds.
const serverLife = 90 * 24 * time.Hour

// maxNames bounds the names in one listener's certificate.
const maxNames = 256

// Listener keeps a TLS server certificate current for the addresses that the cluster agent advertises. The key lives in
// memory only: whoever verifies pins the root, never this key. Safe for concurrent use.
type Listener struct {
	authority *Authority

	mu     sync.Mutex
	names  []string
	cert   *tls.Certificate
	root   *x509.Certificate // that signed cert
	issued time.Time
}

// NewListener returns a listener's certificate for names: host names and IP addresses, without ports.
func NewListener(a *Authority, names ...string) (*Listener, error) {
	l := &Listener{authority: a}
	return l, l.Advertise(names...)
}

// Advertise adds names; when one is new, the next handshake already sees a certificate that has it.
func (l *Listener) Advertise(names ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.names)
	for _, name := range names {
		clean, err := certName(name)
		if err != nil {
			return err
		}
		if !slices.Contains(all, clean) {
			all = append(all, clean)
		}
	}
	if len(all) == 0 || len(all) > maxNames {
		return fmt.Errorf("advertise: %d names; wanted 1 to %d", len(all), maxNames)
	}
	if len(all) != len(l.names) {
		l.names, l.cert = all, nil
	}
	return nil
}

// Names returns what the certificate is good for.
func (l *Listener) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.names)
}

// GetCertificate serves tls.Config. It issues anew when names were added, the root changed or two thirds of the life of
// the present certificate are over.
func (l *Listener) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, signer := l.authority.cfg.Now(), l.authority.serverRoot()
	age := now.Sub(l.issued)
	if l.cert != nil && l.root == signer.cert && age >= -serverLife/3 && age < serverLife*2/3 {
		return l.cert, nil
	}
	cert, err := signer.issueServer(l.names, now)
	if err != nil {
		return nil, err
	}
	l.cert, l.root, l.issued = cert, signer.cert, now
	return cert, nil
}

// issueServer makes a key and its certificate. It is valid from the root's own first moment: a device without a clock
// knows no better time than that of its join string, which may be older than this certificate. The root is part of the
// chain, so that a device can compare it with the digest that it pins before it trusts anything.
func (r root) issueServer(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make listener key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: "skerry-cluster", Organization: []string{"skerry:server"}},
		NotBefore:    r.cert.NotBefore,
		NotAfter:     earlier(now.Add(serverLife), r.cert.NotAfter).UTC().Truncate(time.Second),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, r.cert, &key.PublicKey, r.key)
	if err != nil {
		return nil, fmt.Errorf("issue listener certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue listener certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, r.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// certName checks a host name or an IP address and brings it to its one form.
func certName(name string) (string, error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if ip := net.ParseIP(bare); ip != nil {
		if ip.IsUnspecified() {
			return "", fmt.Errorf("advertise %q: nobody can dial it; wanted an address of this host", name)
		}
		return ip.String(), nil
	}
	host := strings.ToLower(strings.TrimSuffix(name, "."))
	if host == "" || len(host) > 253 {
		return "", fmt.Errorf("advertise %.40q: wanted a host name of 1 to 253 characters or an IP address", name)
	}
	for _, label := range strings.Split(host, ".") {
		if err := dnsLabel(label); err != nil {
			return "", fmt.Errorf("advertise %q: %w", name, err)
		}
	}
	return host, nil
}

func dnsLabel(label string) error {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return errors.New("wanted labels of 1 to 63 letters, digits and inner hyphens; a port does not belong here")
	}
	for _, c := range []byte(label) {
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return fmt.Errorf("character %q; wanted letters, digits and hyphens, without a port", c)
		}
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
