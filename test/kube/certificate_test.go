package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// signed has a certificate made by the CSR API: asked for by a node, approved by the administrator.
func signed(t *testing.T, p *ControlPlane, name, signer string, usage string, request *x509.CertificateRequest) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: %s}, spec: {signerName: %s, "+
		"usages: [digital signature, %s], request: %s}}", name, signer, usage,
		base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw})))
	node, err := p.User(request.Subject.CommonName, request.Subject.Organization...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.KubectlWith(t.Context(), text, "create", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	kubectl(t, p, "certificate", "approve", name)
	var cert []byte
	eventually(t, time.Minute, name+" is signed", func() error {
		out, err := p.Admin.Kubectl(t.Context(), "get", "csr", name, "-o", "jsonpath={.status.certificate}")
		if err != nil {
			return err
		}
		block, _ := pem.Decode(must(base64.StdEncoding.DecodeString(out)))
		if block == nil {
			return errors.New("no certificate yet")
		}
		cert = block.Bytes
		return nil
	})
	leaf, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key, Leaf: leaf}
}

func must[T any](v T, _ error) T { return v }

// bridge is the host name under which the cluster agent's kubelet API goes.
const bridge = "skerry-kubelet.skerry-system.svc.cluster.local"

func clientOf(t *testing.T, p *ControlPlane, csr, host string) tls.Certificate {
	t.Helper()
	return signed(t, p, csr, "kubernetes.io/kube-apiserver-client-kubelet", "client auth",
		&x509.CertificateRequest{Subject: nodeName(host)})
}

func servingOf(t *testing.T, p *ControlPlane, csr, host string) tls.Certificate {
	t.Helper()
	return signed(t, p, csr, "kubernetes.io/kubelet-serving", "server auth",
		&x509.CertificateRequest{Subject: nodeName(host), DNSNames: []string{host}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

func nodeName(host string) pkix.Name {
	return pkix.Name{CommonName: "system:node:" + host, Organization: []string{"system:nodes"}}
}

func TestCertificatesAreSigned(t *testing.T) {
	p := cluster(t)
	client := clientOf(t, p, "signed-client", "signed").Leaf
	if _, err := client.Verify(x509.VerifyOptions{Roots: p.papers.clients.pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if client.Subject.CommonName != "system:node:signed" || !slices.Contains(client.Subject.Organization, "system:nodes") {
		t.Errorf("the client's certificate is for %s", client.Subject)
	}
	server := servingOf(t, p, "signed-serving", "signed").Leaf
	if _, err := server.Verify(x509.VerifyOptions{Roots: p.papers.servers.pool(), DNSName: "signed"}); err != nil {
		t.Error(err)
	}
	if _, err := client.Verify(x509.VerifyOptions{Roots: p.papers.proxies.pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("the front proxy's CA is the clients' CA")
	}
}
