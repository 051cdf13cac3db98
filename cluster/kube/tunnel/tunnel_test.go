//go:build !race

// remotedialer's connections keep why they ended in a field without a lock (connection.go, v0.4.1), which two goroutines write when both
// ends close. The race detector sees that, and it is not ours to mend: make test-unit runs this file without it.

package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rancher/remotedialer"

	"github.com/skerry-edge/skerry/test/freeport"
)

// server is one of k3s, as far as tunnels go: remotedialer's server, on a port that it keeps over a restart.
type server struct {
	*remotedialer.Server
	address string
	http    *httptest.Server
	conns   *conns
	asked   atomic.Int32
}

// conns breaks connections, hijacked ones too.
type conns struct {
	net.Listener
	mu  sync.Mutex
	all []net.Conn
}

func (c *conns) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.all = append(c.all, conn)
	}
	return conn, err
}

func (s *server) kill() {
	_ = s.conns.Close()
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	for _, c := range s.conns.all {
		_ = c.Close()
	}
}

func newServer(t *testing.T, address string) *server {
	t.Helper()
	s := &server{Server: remotedialer.New(func(*http.Request) (string, bool, error) { return "ours", true, nil },
		func(rw http.ResponseWriter, _ *http.Request, code int, err error) { http.Error(rw, err.Error(), code) })}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1-k3s/connect", func(rw http.ResponseWriter, req *http.Request) {
		s.asked.Add(1)
		s.Server.ServeHTTP(rw, req)
	})
	s.http = httptest.NewUnstartedServer(mux)
	s.http.Listener.Close()
	s.conns = &conns{Listener: l}
	s.http.Listener = s.conns
	s.http.StartTLS()
	s.address = l.Addr().String()
	t.Cleanup(s.http.Close)
	return s
}

// rig is a tunnel with its servers, and a kubelet API that says its name.
type rig struct {
	t      *testing.T
	tunnel *Tunnel
	tell   chan []string
	trust  *x509.CertPool
	port   int
	stop   func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	kubelet := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		_, _ = io.WriteString(rw, "kubelet")
		if req.URL.Path == "/follow" {
			http.NewResponseController(rw).Flush()
			<-req.Context().Done()
		}
	}))
	t.Cleanup(kubelet.Close)
	r := &rig{t: t, tell: make(chan []string), trust: x509.NewCertPool(), port: kubelet.Listener.Addr().(*net.TCPAddr).Port}
	r.tunnel = New(Config{TLS: &tls.Config{RootCAs: r.trust}, Open: func(port int) bool { return port == r.port }, Host: "127.0.0.1",
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Follow: func(ctx context.Context, tell func([]string)) {
			for {
				select {
				case <-ctx.Done():
					return
				case servers := <-r.tell:
					tell(servers)
				}
			}
		}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.tunnel.Run(ctx) }()
	r.stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("the tunnel does not stop")
		}
	}
	t.Cleanup(r.stop)
	return r
}

func (r *rig) server(address string) *server {
	r.t.Helper()
	s := newServer(r.t, address)
	r.trust.AddCert(s.http.Certificate())
	return s
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			r.t.Fatalf("not within a minute: %s; sessions %+v", what, r.tunnel.Status())
		}
	}
}

// ask goes to the kubelet API by a server.
func (r *rig) ask(s *server, address string) (string, error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return s.Dialer("ours")(ctx, network, address)
		}}}
	resp, err := client.Get("http://kubelet/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}

func (r *rig) passes(s *server) {
	r.t.Helper()
	if got, err := r.ask(s, net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port))); err != nil || got != "kubelet" {
		r.t.Errorf("through the tunnel: %q, %v", got, err)
	}
}

func (s *server) has() bool  { return s.HasSession("ours") }
func (s *server) lost() bool { return !s.has() }

func TestEachServerHasASessionForAsLongAsItIsThere(t *testing.T) {
	r := newRig(t)
	one := r.server(freeport.Addr(t))
	r.tell <- []string{one.address}
	r.until("a session with the first", one.has)
	r.passes(one)
	two := r.server(freeport.Addr(t))
	r.tell <- []string{one.address, two.address, two.address}
	r.until("a session with the second", two.has)
	r.passes(one)
	r.passes(two)
	if got := two.asked.Load(); got != 1 {
		t.Errorf("%d websockets; wanted one", got)
	}
	r.tell <- []string{two.address}
	r.until("the session with the first ends", one.lost)
	r.passes(two)
	if st := r.tunnel.Status(); len(st) != 1 || st[0].Server != two.address || !st[0].Connected {
		t.Errorf("status %+v; wanted the second server alone, connected", st)
	}
	r.stop()
	r.until("the session ends with the tunnel", two.lost)
}

func TestASessionComesBackAfterItsServer(t *testing.T) {
	r := newRig(t)
	s := r.server(freeport.Addr(t))
	r.tell <- []string{s.address}
	r.until("a session", s.has)
	s.kill()
	r.until("the status says so", func() bool { st := r.tunnel.Status(); return !st[0].Connected && st[0].Reason != "" })
	again := r.server(s.address)
	r.until("a session again", again.has)
	r.passes(again)
}

// TestARefusedDialEndsNothingElse: a server may ask for the port of a node that has just gone.
func TestARefusedDialEndsNothingElse(t *testing.T) {
	r := newRig(t)
	s := r.server(freeport.Addr(t))
	r.tell <- []string{s.address}
	r.until("a session", s.has)
	conn, err := s.Dialer("ours")(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /follow HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.1:1", "127.0.0.2:22", "10.0.0.1:" + strconv.Itoa(r.port), "localhost:" + strconv.Itoa(r.port), "127.0.0.1", "127.0.0.1:http"} {
		if got, err := r.ask(s, address); err == nil {
			t.Errorf("%s is dialled: %q", address, got)
		}
	}
	if _, err := s.Dialer("ours")(t.Context(), "udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port))); err != nil {
		t.Errorf("the server sees %v; wanted a connection that ends", err)
	}
	r.passes(s)
	line := make([]byte, 8)
	if _, err := io.ReadFull(conn, line); err != nil || string(line) != "HTTP/1.1" {
		t.Errorf("the log that was followed: %q, %v", line, err)
	}
}

// TestOpenStreamsEndWithTheTunnel: Run returns while a log is followed.
func TestOpenStreamsEndWithTheTunnel(t *testing.T) {
	r := newRig(t)
	s := r.server(freeport.Addr(t))
	r.tell <- []string{s.address}
	r.until("a session", s.has)
	conn, err := s.Dialer("ours")(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /follow HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if _, err := io.Copy(io.Discard, conn); err == nil {
		t.Error("the log ends as if it were complete")
	}
}

func TestARefusalSaysWhatToDo(t *testing.T) {
	for code, want := range map[int]string{http.StatusNotFound: "kubelet_via: direct", http.StatusUnauthorized: "client certificate",
		http.StatusServiceUnavailable: "503"} {
		err := refusal(&http.Response{StatusCode: code, Status: strconv.Itoa(code)}, io.EOF)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v; wanted %q in it", code, err, want)
		}
	}
}
