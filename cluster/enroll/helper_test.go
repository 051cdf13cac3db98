package enroll

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

const day = 24 * time.Hour

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// registry notes what it is told.
type registry struct {
	mu       sync.Mutex
	enrolled []api.Node
	revoked  []mqtt.Identity
	fail     error
}

func (r *registry) Enrolled(n api.Node) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	r.enrolled = append(r.enrolled, n)
	return nil
}

func (r *registry) Merged(n api.Node) error { return r.Enrolled(n) }

func (r *registry) Revoked(who mqtt.Identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked = append(r.revoked, who)
}

// site is a cluster agent's enrolment: a real authority and store on disk, and a real HTTPS listener.
type site struct {
	*Service
	clock    *clock
	registry *registry
	url      string
	dir      string
}

func newSite(t testing.TB, change func(*Config)) *site {
	t.Helper()
	s := newQuietSite(t, change)
	s.serve(t)
	return s
}

// newQuietSite is a site without a listener: a fuzzer is led astray by what runs beside its target.
func newQuietSite(t testing.TB, change func(*Config)) *site {
	t.Helper()
	s := &site{clock: newClock(), registry: &registry{}, dir: t.TempDir()}
	s.open(t, change)
	return s
}

func (s *site) open(t testing.TB, change func(*Config)) {
	t.Helper()
	a, err := OpenAuthority(t.Context(), AuthorityConfig{Dir: filepath.Join(s.dir, "ca"), Cluster: "c1", Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(s.dir, "store.db"), 0o600, &bbolt.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	cfg := Config{Cluster: "c1", Endpoints: []string{"https://127.0.0.1:8443"}, MQTT: []string{"mqtts://127.0.0.1:8883"},
		DB: db, Authority: a, Nodes: s.registry, Log: slog.New(slog.DiscardHandler), Now: s.clock.now}
	if change != nil {
		change(&cfg)
	}
	if s.Service, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
}

func (s *site) serve(t testing.TB) {
	t.Helper()
	l, err := NewListener(s.cfg.Authority, "127.0.0.1", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan error, 1)
	go func() { done <- server.Serve(tls.NewListener(tcp, s.ServerTLS(l))) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	s.url = "https://" + tcp.Addr().String()
}

// device is a caller with a key of its own and, perhaps, a certificate.
type device struct {
	site *site
	key  crypto.Signer
	cert *x509.Certificate
}

func (s *site) device(t testing.TB) *device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &device{site: s, key: key}
}

func csrOf(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// do sends a request over a new TLS connection, with the certificate when there is one, at the site's time.
func (d *device) do(t testing.TB, method, path string, body any) (int, []byte) {
	t.Helper()
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	config := &tls.Config{RootCAs: d.site.cfg.Authority.Pool(), Time: d.site.clock.now}
	if d.cert != nil {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{d.cert.Raw}, PrivateKey: d.key}}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, d.site.url+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}

// ask posts body and returns the reply, or the problem.
func (d *device) ask(t testing.TB, path string, body any) (*api.EnrollReply, *api.Problem) {
	t.Helper()
	status, raw := d.do(t, http.MethodPost, path, body)
	if status >= 300 {
		var p api.Problem
		if err := json.Unmarshal(raw, &p); err != nil || p.Status != status || p.Code == "" || p.Title == "" {
			t.Fatalf("status %d with body %q is no problem: %v", status, raw, err)
		}
		return nil, &p
	}
	var reply api.EnrollReply
	if err := json.Unmarshal(raw, &reply); err != nil {
		t.Fatal(err)
	}
	return &reply, nil
}

func (d *device) request(t testing.TB, token api.Token, node string) *api.EnrollRequest {
	t.Helper()
	join, err := api.ParseJoin(token.Join)
	if err != nil {
		t.Fatal(err)
	}
	return &api.EnrollRequest{TokenID: join.ID, Secret: join.Secret, Node: node, CSR: csrOf(t, d.key),
		Host: api.Host{Hostname: "gw"}}
}

// enroll joins and keeps the certificate.
func (d *device) enroll(t testing.TB, token api.Token, node string) *api.EnrollReply {
	t.Helper()
	reply, p := d.ask(t, "/v1/enroll", d.request(t, token, node))
	if p != nil || reply.Status != api.EnrollIssued {
		t.Fatalf("enrol %s: reply %+v, problem %v", node, reply, p)
	}
	d.keep(t, reply)
	return reply
}

func (d *device) keep(t testing.TB, reply *api.EnrollReply) {
	t.Helper()
	block, _ := pem.Decode([]byte(reply.Certificate))
	if block == nil {
		t.Fatalf("certificate %q is not PEM", reply.Certificate)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	d.cert = cert
}

func (d *device) renew(t testing.TB) (*api.EnrollReply, *api.Problem) {
	t.Helper()
	return d.ask(t, "/v1/renew", api.RenewRequest{CSR: csrOf(t, d.key)})
}

func (s *site) token(t testing.TB, spec TokenSpec) api.Token {
	t.Helper()
	token, err := s.CreateToken(spec)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// uses returns how often a token was used.
func (s *site) uses(t testing.TB, id string) int {
	t.Helper()
	tokens, err := s.Tokens()
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		if token.ID == id {
			return token.Uses
		}
	}
	t.Fatalf("token %s is not listed", id)
	return 0
}

func wantCode(t testing.TB, what string, err error, code string) {
	t.Helper()
	p, ok := errors.AsType[*api.Problem](err)
	if !ok || p.Code != code {
		t.Errorf("%s: %v; wanted a problem with code %s", what, err, code)
	}
}

// wantProblem is wantCode for what ask returned, where nil is no problem.
func wantProblem(t testing.TB, what string, p *api.Problem, code string) {
	t.Helper()
	if p == nil {
		t.Errorf("%s was allowed; wanted a problem with code %s", what, code)
		return
	}
	wantCode(t, what, p, code)
}
