package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// frontProxy is the name that the API server believes when it tells who a request is from.
const frontProxy = "system:auth-proxy"

// papers are all certificates and keys of a control plane, as files.
type papers struct {
	dir                       string
	servers, clients, proxies *authority
	apiServer                 pair // serving
	kubeletClient             pair // with which the API server comes to kubelets and to the tunnel
	frontProxy                pair
	admin                     pair
	accountKey                string // signs tokens of service accounts
}

func newPapers(dir, address string) (*papers, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make papers: %w", err)
	}
	c := &papers{dir: dir, accountKey: filepath.Join(dir, "service-account.key")}
	for name, a := range map[string]**authority{"server-ca": &c.servers, "client-ca": &c.clients, "request-header-ca": &c.proxies} {
		var err error
		if *a, err = newAuthority(dir, name); err != nil {
			return nil, err
		}
	}
	var err error
	if c.apiServer, err = c.servers.server(dir, "kube-apiserver", "127.0.0.1", "localhost", address, "10.43.0.1", "kubernetes",
		"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"); err != nil {
		return nil, err
	}
	if c.kubeletClient, err = c.clients.client(dir, "client-kube-apiserver", "system:apiserver", "system:masters"); err != nil {
		return nil, err
	}
	if c.frontProxy, err = c.proxies.client(dir, "client-auth-proxy", frontProxy); err != nil {
		return nil, err
	}
	if c.admin, err = c.clients.client(dir, "client-admin", "system:admin", "system:masters"); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make papers: %w", err)
	}
	return c, writeKey(c.accountKey, key)
}

// transport speaks to servers of this cluster with a certificate.
func (c *papers) transport(p pair) (*http.Transport, error) {
	cert, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.servers.pool(), Certificates: []tls.Certificate{cert}}, ForceAttemptHTTP2: true}, nil
}

func (c *papers) servingPair() (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(c.apiServer.cert, c.apiServer.key)
	if err != nil {
		return cert, fmt.Errorf("load certificate: %w", err)
	}
	return cert, nil
}
