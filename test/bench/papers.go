package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-edge/skerry/mqtt"
)

// papers is a CA of the bench's own with one server and one client certificate, of the same kind (ECDSA P-256) as the
// cluster agent's, so that the references pay the same handshake and cipher.
type papers struct {
	server *tls.Config
	client *tls.Config
}

// newPapers makes them and writes them into dir, for mosquitto and for other processes of the bench.
func newPapers(dir string) (*papers, error) {
	// A name of its own: a leaf with the name of its issuer would pass for self-signed with OpenSSL.
	caKey, ca, err := issue(mqtt.Identity{Kind: mqtt.ClusterIdentity, Name: "ca", Cluster: echoCluster}, nil, nil)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(ca)
	if err != nil {
		return nil, err
	}
	serverKey, server, err := issue(fullRights(), root, caKey)
	if err != nil {
		return nil, err
	}
	clientKey, cert, err := issue(fullRights(), root, caKey)
	if err != nil {
		return nil, err
	}
	serverDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		return nil, err
	}
	clientDER, err := x509.MarshalPKCS8PrivateKey(clientKey)
	if err != nil {
		return nil, err
	}
	files := map[string]pem.Block{"ca.crt": {Type: "CERTIFICATE", Bytes: ca},
		"server.crt": {Type: "CERTIFICATE", Bytes: server}, "server.key": {Type: "PRIVATE KEY", Bytes: serverDER},
		"client.crt": {Type: "CERTIFICATE", Bytes: cert}, "client.key": {Type: "PRIVATE KEY", Bytes: clientDER}}
	for name, block := range files {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&block), 0o600); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	return loadPapers(dir)
}

// loadPapers reads what newPapers wrote.
func loadPapers(dir string) (*papers, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("read %s: no certificate", filepath.Join(dir, "ca.crt"))
	}
	server, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	if err != nil {
		return nil, err
	}
	mine, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	if err != nil {
		return nil, err
	}
	return &papers{
		server: &tls.Config{MinVersion: tls.VersionTLS13, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
			Certificates: []tls.Certificate{server}},
		client: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: "127.0.0.1", Certificates: []tls.Certificate{mine}},
	}, nil
}

// echoCluster is the cluster of every certificate here.
const echoCluster = "echo"

// fullRights is the identity in every certificate here: the cluster agent's own, which may publish and read all.
func fullRights() mqtt.Identity {
	return mqtt.Identity{Kind: mqtt.ClusterIdentity, Name: echoCluster, Cluster: echoCluster}
}

// issue makes a certificate signed by issuer, or a CA without one.
func issue(who mqtt.Identity, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key of %s: %w", who.CommonName(), err)
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: who.Subject(), URIs: []*url.URL{who.URI()}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(24 * time.Hour), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	if issuer == nil {
		t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign
		issuer, issuerKey = t, key
	} else {
		t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer, key.Public(), issuerKey)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate of %s: %w", who.CommonName(), err)
	}
	return key, der, nil
}
