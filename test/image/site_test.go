// Package image holds tests of images from a registry to a node: a real registry, a real cluster agent with its HTTPS listener,
// and a real node's certificate.
package image

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/edge/image"
	"github.com/skerry-edge/skerry/test/freeport"
)

// upstream is a registry that counts, and misbehaves as told.
type upstream struct {
	*httptest.Server
	host string

	mu    sync.Mutex
	gets  map[string]int // by path
	heads int
	// wrap sees each answer to a GET; nil: it passes.
	wrap atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler)]
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{gets: map[string]int{}}
	next := registry.New(registry.Logger(slogDiscard()))
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		switch r.Method {
		case http.MethodGet:
			u.gets[r.URL.Path]++
		case http.MethodHead:
			u.heads++
		}
		u.mu.Unlock()
		if f := u.wrap.Load(); f != nil && r.Method == http.MethodGet {
			(*f)(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(u.Close)
	u.host = strings.TrimPrefix(u.URL, "http://")
	return u
}

func (u *upstream) got(path string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.gets[path]
}

// site is a cluster agent in this process.
type site struct {
	t      *testing.T
	dir    string
	file   string
	server string
	ca     string
	token  string
	stop   func()
}

// text is a log that a test may read.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// newSite starts a cluster agent; images is the section of its configuration, indented by two.
func newSite(t *testing.T, images string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.file = filepath.Join(t.TempDir(), "cluster.yaml")
	cfg := fmt.Sprintf("cluster: c1\nadvertise: [127.0.0.1]\ndir: %s\nmqtt: {listen: %q}\nhttp: {listen: %q}\nlog: {level: warn}\nimages:\n%s", s.dir, freeport.Addr(t), freeport.Addr(t), images)
	if err := os.WriteFile(s.file, []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	return s
}

func (s *site) start() {
	s.t.Helper()
	cfg, err := configs.LoadCluster(configs.Source{File: s.file, Required: true})
	if err != nil {
		s.t.Fatal(err)
	}
	log := &text{}
	a, err := cluster.New(cfg, log)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				s.t.Errorf("run: %v", err)
			}
		case <-time.After(2 * time.Minute):
			s.t.Error("the cluster agent does not stop")
		}
		if s.t.Failed() {
			s.t.Logf("cluster agent:\n%s", log.b.String())
		}
	})
	s.t.Cleanup(func() { s.stop() })
	s.await()
}

// await waits until the agent serves, and reads its administrator's context.
func (s *site) await() {
	s.t.Helper()
	for limit := time.Now().Add(3 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			s.t.Fatal("the cluster agent is not ready")
		}
		raw, err := os.ReadFile(filepath.Join(s.dir, "admin.yaml"))
		if err != nil {
			continue
		}
		var doc struct {
			Contexts []struct{ Server, CA, Token string }
		}
		if err := yaml.Unmarshal(raw, &doc); err != nil || len(doc.Contexts) != 1 {
			continue
		}
		s.server, s.ca, s.token = doc.Contexts[0].Server, doc.Contexts[0].CA, doc.Contexts[0].Token
		if status, _ := s.try("GET", "/readyz", nil); status == 200 {
			return
		}
	}
}

func (s *site) client(cert *tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.ca))
	cfg := &tls.Config{RootCAs: pool}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
}

func (s *site) try(method, path string, body io.Reader) (int, string) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.client(nil).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(raw)
}

func must[T any](s *site, method, path string, body any) T {
	s.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	status, text := s.try(method, path, bytes.NewReader(raw))
	var out T
	if status >= 300 || status == 0 {
		s.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

// node is one with a certificate and a store.
type node struct {
	*image.Store
	id   *identity.Identity
	dir  string
	dial atomic.Pointer[func(ctx context.Context, network, addr string) (net.Conn, error)]
}

func clock() *agent.Clock {
	return agent.NewClock(time.Unix(0, 0), agent.ClockSource{})
}

func (s *site) enrol(name string) *identity.Identity {
	s.t.Helper()
	token := must[api.Token](s, "POST", "/v1/tokens", api.TokenRequest{TTL: "1h", MaxUses: 1})
	join, err := api.ParseJoin(token.Join)
	if err != nil {
		s.t.Fatal(err)
	}
	id, err := identity.New(name)
	if err != nil {
		s.t.Fatal(err)
	}
	csr, err := id.CSR()
	if err != nil {
		s.t.Fatal(err)
	}
	reply, err := (&identity.Client{Clock: clock()}).Enroll(s.t.Context(), &join, &api.EnrollRequest{Node: name, CSR: csr})
	if err != nil {
		s.t.Fatal(err)
	}
	if id, err = id.With(reply, join.CASHA256); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// node enrols one and opens its store.
func (s *site) node(name string) *node {
	s.t.Helper()
	n := &node{id: s.enrol(name), dir: s.t.TempDir()}
	n.open(s.t, image.Settings{})
	return n
}

func (n *node) open(t *testing.T, cfg image.Settings) {
	t.Helper()
	c := clock()
	if cfg.Dir == "" {
		cfg.Dir = n.dir
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.Site = image.Site{Endpoints: func() []string { return n.id.Endpoints }, TLS: func(host string) *tls.Config { return n.id.SiteTLS(host, c) },
		Patience: 20 * time.Second, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if d := n.dial.Load(); d != nil {
				return (*d)(ctx, network, addr)
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}}
	if cfg.ReserveBytes == 0 {
		cfg.ReserveBytes = 1 << 20
	}
	var err error
	if n.Store, err = image.Open(cfg); err != nil {
		t.Fatal(err)
	}
}
