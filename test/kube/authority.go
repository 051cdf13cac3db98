package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is a CA of one purpose: a cluster has one for servers, one for clients and one for the front proxy, as k3s has.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate; the key lies beside it as .key
}

const papersLast = 24 * time.Hour

func newAuthority(dir, name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", name, err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(papersLast), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", name, err)
	}
	a := &authority{cert: cert, key: key, file: filepath.Join(dir, name+".crt")}
	if err := os.WriteFile(a.file, certPEM(raw), 0o600); err != nil {
		return nil, fmt.Errorf("make CA %s: %w", name, err)
	}
	return a, writeKey(a.keyFile(), key)
}

func (a *authority) keyFile() string { return a.file[:len(a.file)-len(".crt")] + ".key" }

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// client issues a certificate to a user and writes it, with its key, as dir/name.crt and .key.
func (a *authority) client(dir, name, user string, groups ...string) (pair, error) {
	return a.issue(dir, name, &x509.Certificate{Subject: pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// server issues a certificate for addresses and names, in the same way.
func (a *authority) server(dir, name string, hosts ...string) (pair, error) {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return a.issue(dir, name, template)
}

// pair is the files of a certificate and its key.
type pair struct{ cert, key string }

func (a *authority) issue(dir, name string, template *x509.Certificate) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fmt.Errorf("issue %s: %w", name, err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return pair{}, fmt.Errorf("issue %s: %w", name, err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), a.cert.NotAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return pair{}, fmt.Errorf("issue %s: %w", name, err)
	}
	p := pair{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")}
	if err := os.WriteFile(p.cert, certPEM(raw), 0o600); err != nil {
		return pair{}, fmt.Errorf("issue %s: %w", name, err)
	}
	return p, writeKey(p.key, key)
}

func certPEM(raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

// writeKubeconfig writes a kubeconfig that holds everything, so that it can be copied elsewhere.
func writeKubeconfig(path, server, caFile string, p pair) error {
	var data [3]string
	for i, file := range []string{caFile, p.cert, p.key} {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("write kubeconfig: %w", err)
		}
		data[i] = base64.StdEncoding.EncodeToString(raw)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: test, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, server, data[0], data[1], data[2])
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
