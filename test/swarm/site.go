package swarm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cli"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Site is the cluster agent as its administrator sees it: where commands are given, and where the views look.
type Site struct {
	Client   *cli.Client
	Server   string // URL of the REST interface
	Status   api.ClusterStatus
	operator string // name of the certificate that the MQTT view uses
}

// NewSite asks the cluster agent for its status.
func NewSite(ctx context.Context, access cli.Context) (*Site, error) {
	client, err := cli.NewClient(access)
	if err != nil {
		return nil, err
	}
	s := &Site{Client: client, Server: access.Server}
	return s, client.Get(ctx, "/v1/status", &s.Status)
}

// Join makes a join token for uses devices.
func (s *Site) Join(ctx context.Context, uses int) (api.Join, error) {
	var t api.Token
	if err := s.Client.Post(ctx, "/v1/tokens", api.TokenRequest{TTL: "2h", MaxUses: uses}, &t); err != nil {
		return api.Join{}, fmt.Errorf("make join token: %w", err)
	}
	return api.ParseJoin(t.Join)
}

// Listen certifies an operator and builds the MQTT view with its certificate; Forget revokes it. servers are the brokers.
func (s *Site) Listen(ctx context.Context, servers []string, log *slog.Logger) (*account.MQTT, error) {
	topics, err := mqtt.NewTopics(s.Status.Root, s.Status.Cluster)
	if err != nil {
		return nil, err
	}
	codec, err := mqtt.NewCodec()
	if err != nil {
		return nil, err
	}
	name := "swarm-" + api.NewID()
	secure, err := s.certify(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("certify operator: %w", err)
	}
	s.operator = name
	return account.NewMQTT(account.MQTTConfig{Servers: servers, Name: name, TLS: secure, Topics: topics, Codec: codec, Log: log})
}

// certify makes a certificate as `skerry operator create` does.
func (s *Site) certify(ctx context.Context, name string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	var op api.Operator
	if err := s.Client.Post(ctx, "/v1/operators", api.OperatorRequest{Name: name, Role: api.RoleOperator, TTL: "24h", CSR: csr}, &op); err != nil {
		return nil, err
	}
	cert := tls.Certificate{PrivateKey: key}
	for block, rest := pem.Decode([]byte(op.PEM)); block != nil; block, rest = pem.Decode(rest) {
		cert.Certificate = append(cert.Certificate, block.Bytes)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(op.CA)) {
		return nil, errors.New("the certificate came without a CA")
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{cert}}, nil
}

// Forget revokes what Listen had certified.
func (s *Site) Forget(ctx context.Context) error {
	if s.operator == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return s.Client.Delete(ctx, "/v1/operators/"+url.PathEscape(s.operator))
}
