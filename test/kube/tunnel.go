package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rancher/remotedialer"
	"golang.org/x/sys/unix"
)

// Tunnel stands in for the one port of a k3s server (6443 there). As k3s does (pkg/server/handlers/router.go and
// pkg/daemons/control/tunnel.go of k3s), it takes
//   - websockets of nodes at /v1-k3s/connect: group system:nodes, and the session's key is what follows system:node: in the
//     user's name;
//   - CONNECT of the API server, which reaches kubelets through it: group system:masters;
//   - everything else, for the API server.
type Tunnel struct {
	address    string
	serverNode string // needs no session
	dir        string
	port       *port
	papers     *papers
	server     *remotedialer.Server
	nodes      *nodeTable
	api        *httputil.ReverseProxy

	mu      sync.Mutex
	running *http.Server
	conns   map[net.Conn]bool // of running, hijacked ones too
	served  chan error
	stop    context.CancelFunc
}

func newTunnel(p *ControlPlane) (*Tunnel, error) {
	back, err := p.papers.transport(p.papers.frontProxy)
	if err != nil {
		return nil, err
	}
	back.ForceAttemptHTTP2 = false // exec, attach and port-forward upgrade the connection
	target, err := url.Parse(p.direct())
	if err != nil {
		return nil, fmt.Errorf("make tunnel: %w", err)
	}
	admin, err := p.papers.transport(p.papers.admin)
	if err != nil {
		return nil, err
	}
	t := &Tunnel{address: p.options.Address, serverNode: p.options.ServerNode, dir: p.Dir, papers: p.papers,
		server: remotedialer.New(sessionKey, refuse),
		nodes:  &nodeTable{client: &http.Client{Transport: admin}, url: p.direct() + "/api/v1/nodes", entries: map[string]nodeEntry{}, egress: map[string]bool{}}}
	t.api = &httputil.ReverseProxy{Transport: back, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { passOn(r, target) },
		ErrorLog: log.New(io.Discard, "", 0)} // the client is answered 502
	t.port, err = reserve(t.address)
	return t, err
}

// URL is where clients and nodes reach it.
func (t *Tunnel) URL() string { return "https://" + t.Address() }

// Address is host:port of URL.
func (t *Tunnel) Address() string { return t.port.at(t.address) }

// HasSession tells whether a node's websocket is there.
func (t *Tunnel) HasSession(node string) bool { return t.server.HasSession(node) }

// Start listens; a started tunnel stays as it is.
func (t *Tunnel) Start() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running != nil {
		return nil
	}
	cert, err := t.papers.servingPair()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	sharing := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		return errors.Join(c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }), set)
	}}
	listener, err := sharing.Listen(ctx, "tcp", t.Address())
	if err != nil {
		cancel()
		return fmt.Errorf("start tunnel: %w", err)
	}
	t.conns, t.served, t.stop = map[net.Conn]bool{}, make(chan error, 2), cancel
	t.running = &http.Server{Handler: http.HandlerFunc(t.serve), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.conns == nil { // accepted while it was stopped
				_ = c.Close()
				return ctx
			}
			t.conns[c] = true
			return ctx
		},
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.conns, c)
			}
		}}
	running, served := t.running, t.served
	go func() { served <- running.ServeTLS(listener, "", "") }()
	go func() { served <- t.nodes.follow(ctx) }()
	return nil
}

// Stop refuses new connections and breaks those that are there, sessions too.
func (t *Tunnel) Stop() error {
	t.mu.Lock()
	if t.running == nil {
		t.mu.Unlock()
		return nil
	}
	t.stop()
	err := t.running.Close()
	for c := range t.conns {
		_ = c.Close() // most are closed already
	}
	served := t.served
	t.running, t.conns = nil, nil
	t.mu.Unlock()
	for range 2 {
		if e := <-served; e != nil && !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (t *Tunnel) close() error {
	err := t.Stop()
	if t.port != nil {
		t.port.release()
	}
	return err
}

// egressConfig writes what tells the API server to reach kubelets through the tunnel.
func (t *Tunnel) egressConfig() (string, error) {
	config := map[string]any{"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
		"egressSelections": []any{map[string]any{"name": "cluster", "connection": map[string]any{"proxyProtocol": "HTTPConnect",
			"transport": map[string]any{"tcp": map[string]any{"url": t.URL(), "tlsConfig": map[string]any{
				"caBundle": t.papers.servers.file, "clientCert": t.papers.kubeletClient.cert, "clientKey": t.papers.kubeletClient.key}}}}}}}
	raw, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("write egress config: %w", err)
	}
	file := filepath.Join(t.dir, "egress.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return "", fmt.Errorf("write egress config: %w", err)
	}
	return file, nil
}

func (t *Tunnel) serve(rw http.ResponseWriter, req *http.Request) {
	switch {
	case req.Method == http.MethodConnect:
		t.as("system:masters", rw, req, t.connect)
	case req.URL.Path == "/v1-k3s/connect":
		t.as("system:nodes", rw, req, t.server.ServeHTTP)
	case req.URL.Path == "/ping":
		_, _ = io.WriteString(rw, "pong")
	case req.URL.Path == "/cacerts":
		http.ServeFile(rw, req, t.papers.servers.file)
	default:
		if user, err := t.user(req); err != nil {
			refuse(rw, req, http.StatusUnauthorized, err)
		} else {
			t.api.ServeHTTP(rw, req.WithContext(context.WithValue(req.Context(), userKey{}, user)))
		}
	}
}

// as lets a member of group through.
func (t *Tunnel) as(group string, rw http.ResponseWriter, req *http.Request, next http.HandlerFunc) {
	user, err := t.user(req)
	switch {
	case err != nil:
		refuse(rw, req, http.StatusUnauthorized, err)
	case user == nil || !slices.Contains(user.Subject.Organization, group):
		refuse(rw, req, http.StatusForbidden, errors.New("forbidden"))
	default:
		next(rw, req.WithContext(context.WithValue(req.Context(), userKey{}, user)))
	}
}

type userKey struct{}

// user returns the client's certificate, or nil when there is none: a token is for the API server to judge.
func (t *Tunnel) user(req *http.Request) (*x509.Certificate, error) {
	if len(req.TLS.PeerCertificates) == 0 {
		return nil, nil
	}
	cert := req.TLS.PeerCertificates[0]
	_, err := cert.Verify(x509.VerifyOptions{Roots: t.papers.clients.pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, errors.New("not authorized")
	}
	return cert, nil
}

// sessionKey is k3s's authorizer.
func sessionKey(req *http.Request) (string, bool, error) {
	cert, _ := req.Context().Value(userKey{}).(*x509.Certificate)
	if cert == nil {
		return "", false, nil
	}
	node, is := strings.CutPrefix(cert.Subject.CommonName, "system:node:")
	return node, is, nil
}

func refuse(rw http.ResponseWriter, _ *http.Request, code int, err error) {
	http.Error(rw, err.Error(), code)
}

// passOn sends a request to the API server as the user of its certificate, as a front proxy does.
func passOn(r *httputil.ProxyRequest, target *url.URL) {
	r.SetURL(target)
	for name := range r.Out.Header {
		if strings.HasPrefix(strings.ToLower(name), "x-remote-") {
			r.Out.Header.Del(name)
		}
	}
	if user, _ := r.In.Context().Value(userKey{}).(*x509.Certificate); user != nil {
		r.Out.Header.Set("X-Remote-User", user.Subject.CommonName)
		r.Out.Header["X-Remote-Group"] = user.Subject.Organization
	}
}
