// Package certs gets certificates from a cluster by CertificateSigningRequests, approves them, and renews them before they end.
// The keys stay in memory: a new life asks anew.
package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"

	"github.com/skerry-edge/skerry/agent"
)

// Want is a certificate as it should be.
type Want struct {
	Name   string // of the node, with system:node: before it the subject
	Signer string // certificatesv1.KubeAPIServerClientKubeletSignerName or KubeletServingSignerName
	Hosts  []string
	Usage  certificatesv1.KeyUsage
}

// Keeper has one certificate at hand at all times. New asks for nothing; Run renews.
type Keeper struct {
	want    Want
	client  certificatesclient.CertificateSigningRequestInterface
	now     func() time.Time
	current atomic.Pointer[tls.Certificate]
	first   chan struct{}
}

// New returns a keeper.
func New(want Want, client certificatesclient.CertificateSigningRequestInterface, now func() time.Time) *Keeper {
	return &Keeper{want: want, client: client, now: now, first: make(chan struct{})}
}

// First is closed when the first certificate is there.
func (k *Keeper) First() <-chan struct{} { return k.first }

const (
	issueWithin = 30 * time.Second
	lookEvery   = 250 * time.Millisecond
)

// errNone is for a handshake before there is a certificate.
var errNone = errors.New("no certificate of the cluster is here yet")

// Has tells whether there is a certificate.
func (k *Keeper) Has() bool { return k.current.Load() != nil }

// Serving is for tls.Config.GetCertificate.
func (k *Keeper) Serving(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.current.Load(); c != nil {
		return c, nil
	}
	return nil, errNone
}

// Client is for tls.Config.GetClientCertificate.
func (k *Keeper) Client(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return k.Serving(nil) }

// Start gets a certificate and renews it until ctx ends: at two thirds of its life, and after a failure with backoff. It is one of a
// manager's runnables, and ends with an error only when the first certificate does not come.
func (k *Keeper) Start(ctx context.Context) error {
	wait := agent.Backoff{Min: time.Second, Max: 5 * time.Minute}
	for {
		leaf, err := k.renew(ctx)
		pause := wait.Next()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && k.current.Load() == nil:
			return fmt.Errorf("get certificate of %s from signer %s: %w", k.want.Name, k.want.Signer, err)
		case err == nil:
			wait.Reset()
			pause = agent.Jitter(leaf.NotAfter.Sub(k.now())*2/3, 0.1)
		}
		if !agent.Wait(ctx, max(pause, time.Second)) {
			return nil
		}
	}
}

func (k *Keeper) renew(ctx context.Context) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, issueWithin)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + k.want.Name, Organization: []string{"system:nodes"}}}
	for _, h := range k.want.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		return nil, err
	}
	chain, err := k.sign(ctx, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	if err != nil {
		return nil, err
	}
	cert := tls.Certificate{PrivateKey: key}
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		cert.Certificate = append(cert.Certificate, block.Bytes)
	}
	if len(cert.Certificate) == 0 {
		return nil, errors.New("the signer's answer holds no certificate")
	}
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.Leaf.PublicKey) {
		return nil, errors.New("the signer's certificate is for another key")
	}
	if k.current.Swap(&cert) == nil {
		close(k.first)
	}
	return cert.Leaf, nil
}

// sign asks, approves and waits.
func (k *Keeper) sign(ctx context.Context, request []byte) ([]byte, error) {
	csr, err := k.client.Create(ctx, &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{GenerateName: "skerry-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{Request: request, SignerName: k.want.Signer,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, k.want.Usage}}}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create request: %w", err)
	}
	defer func() { // it has served; the cluster's own controllers would keep it for an hour
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = k.client.Delete(dctx, csr.Name, metav1.DeleteOptions{})
	}()
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved,
		Status: corev1.ConditionTrue, Reason: "SkerryClusterAgent", Message: "the cluster agent asked for it on behalf of the virtual nodes"})
	if _, err := k.client.UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("approve request %s: %w", csr.Name, err)
	}
	for {
		now, err := k.client.Get(ctx, csr.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("look for certificate of request %s: %w", csr.Name, err)
		}
		for _, c := range now.Status.Conditions {
			if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
				return nil, fmt.Errorf("request %s is %s: %s: %s", csr.Name, c.Type, c.Reason, c.Message)
			}
		}
		if len(now.Status.Certificate) > 0 {
			return now.Status.Certificate, nil
		}
		if !agent.Wait(ctx, lookEvery) {
			return nil, fmt.Errorf("request %s is approved and nobody signs it: is there a signer for %s?", csr.Name, k.want.Signer)
		}
	}
}
