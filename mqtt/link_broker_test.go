package mqtt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/test/freeport"
)

// brokerEnd is a broker that lets anybody do anything. After stop, start brings it back on the same address, without
// any memory.
type brokerEnd struct {
	scheme, addr string
	tls          func(host string) (*tls.Config, error) // of a client; nil without TLS
	start, stop  func()
}

func (b *brokerEnd) url(addr string) string { return b.scheme + "://" + addr }

// allowAll lets anybody do anything.
type allowAll struct{ mochi.HookBase }

func (*allowAll) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}

// OnConnectAuthenticate has mochi keep no count of what it may send either: where it does, it takes a read lock twice, and locks up with
// who publishes at this moment.
func (*allowAll) OnConnectAuthenticate(cl *mochi.Client, _ packets.Packet) bool {
	cl.State.Inflight.ResetSendQuota(0)
	return true
}

func (*allowAll) OnACLCheck(*mochi.Client, string, bool) bool { return true }

// anchor is one of the clients that the broker waits for when it closes, until nobody can come any more: the first to be counted would race
// with that.
type anchor struct {
	net.Listener
	clients *sync.WaitGroup
	once    sync.Once
}

func (a *anchor) Close() (err error) {
	a.once.Do(func() {
		err = a.Listener.Close()
		a.clients.Done()
	})
	return err
}

// ending is a listener of mochi whose clients are told of the end without mochi's GetByListener: that takes a read lock twice, and locks
// up with a client that leaves at this moment.
type ending struct {
	listeners.Listener
	server *mochi.Server
}

func (e *ending) Close(listeners.CloseFn) {
	e.Listener.Close(func(id string) {
		for _, cl := range e.server.Clients.GetAll() {
			if cl.Net.Listener == id && !cl.Closed() {
				_ = e.server.DisconnectClient(cl, packets.ErrServerShuttingDown) // it returns the code
			}
		}
	})
}

// startMochi starts a broker in this process.
func startMochi(t *testing.T, server, client *tls.Config) *brokerEnd {
	t.Helper()
	b := &brokerEnd{scheme: "tcp", addr: freeport.Addr(t)}
	if server != nil {
		b.scheme, b.tls = "mqtts", func(string) (*tls.Config, error) { return client, nil }
	}
	var running *mochi.Server
	var front *anchor
	b.start = func() {
		ln, err := net.Listen("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		if server != nil {
			ln = tls.NewListener(ln, server)
		}
		running = mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
		if err := running.AddHook(new(allowAll), nil); err != nil {
			t.Fatal(err)
		}
		running.Listeners.ClientsWg.Add(1)
		front = &anchor{Listener: ln, clients: &running.Listeners.ClientsWg}
		if err := running.AddListener(&ending{listeners.NewNet("test", front), running}); err != nil {
			t.Fatal(err)
		}
		if err := running.Serve(); err != nil {
			t.Fatal(err)
		}
	}
	b.stop = func() {
		if running != nil {
			// First: whoever comes while it closes is accepted and then forgotten, and waits in vain.
			if err := errors.Join(front.Close(), running.Close()); err != nil {
				t.Error(err)
			}
			running = nil
		}
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

// selfSigned returns the two ends of a TLS connection on 127.0.0.1.
func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	server = &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"mqtt"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return server, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
}

// startMosquitto starts Debian's mosquitto as a child process.
func startMosquitto(t *testing.T) *brokerEnd {
	t.Helper()
	const program = "/usr/sbin/mosquitto"
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("install mosquitto: %v", err)
		}
		t.Skipf("install mosquitto: %v", err)
	}
	b := &brokerEnd{scheme: "tcp", addr: freeport.Addr(t)}
	_, port, _ := net.SplitHostPort(b.addr)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nuser root\n", port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var child *exec.Cmd
	b.start = func() {
		child = exec.Command(program, "-c", conf)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "mosquitto listens", func() bool {
			conn, err := net.Dial("tcp", b.addr)
			return err == nil && conn.Close() == nil
		})
	}
	b.stop = func() {
		if child != nil {
			if err := child.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = child.Wait() // says that it was killed
			child = nil
		}
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

// linkPatience is for a machine that is busy with much else: no test waits for it to end.
const linkPatience = time.Minute

// until polls for a condition outside this process, or inside a library without a signal.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(linkPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s: %s", linkPatience, what)
		}
	}
}

// proxy is a TCP relay that can misbehave.
type proxy struct {
	addr   string
	target string
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	stuck  chan struct{} // closed while data may pass
	closed bool
	work   sync.WaitGroup
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: ln.Addr().String(), target: target, conns: make(map[net.Conn]struct{}), stuck: make(chan struct{})}
	close(p.stuck)
	p.work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.relay(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.resume()
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *proxy) relay(near net.Conn) {
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		near.Close()
		return
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		near.Close()
		far.Close()
		return
	}
	p.conns[near], p.conns[far] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(far, near) })
	both.Go(func() { p.copy(near, far) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, near)
	delete(p.conns, far)
	p.mu.Unlock()
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		pass := p.stuck
		p.mu.Unlock()
		<-pass
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// stall lets nothing pass until resume; connections stay open.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck = make(chan struct{})
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.stuck:
	default:
		close(p.stuck)
	}
}

// cut tears every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// tapped is a link that runs, with what happened to it.
type tapped struct {
	*Link
	in    chan Inbound
	downs chan error
	stop  func() // and joins Run
}

// tap runs a link to addr until the test ends; it listens to filter unless that is empty.
func tap(t *testing.T, b *brokerEnd, addr, id, filter string, change func(*LinkConfig)) *tapped {
	t.Helper()
	x := &tapped{in: make(chan Inbound, 4096), downs: make(chan error, 64)}
	cfg := LinkConfig{
		Servers: []string{b.url(addr)}, ClientID: id, TLS: b.tls, KeepAlive: 40 * time.Second, Patience: linkPatience,
		BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
		OnDown: func(err error) { x.downs <- err },
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if filter != "" {
		cfg.Subscriptions = []Subscription{{filter, func(_ context.Context, m Inbound) error { x.in <- m; return nil }}}
	}
	if change != nil {
		change(&cfg)
	}
	l, err := NewLink(cfg)
	if err != nil {
		t.Fatal(err)
	}
	x.Link = l
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	x.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(x.stop)
	return x
}

func (x *tapped) awaitUp(t *testing.T) *tapped {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), linkPatience)
	defer cancel()
	if err := x.AwaitUp(ctx); err != nil {
		t.Fatalf("link did not come up: %v; %+v", err, x.Status())
	}
	return x
}

func (x *tapped) next(t *testing.T) Inbound {
	t.Helper()
	return receive(t, x.in, "a message")
}

func receive[T any](t *testing.T, from <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(linkPatience):
		t.Fatalf("waited %s for %s", linkPatience, what)
	}
	return got
}

// holds returns how many bytes of messages wait or are handled, of the session that is up.
func (x *tapped) holds() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.session == nil {
		return 0
	}
	return x.session.held.Load()
}

// scripted returns a Dial hook to a broker that is played by f, on a pipe.
func scripted(f func(conn net.Conn)) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			f(far)
		}()
		return near, nil
	}
}

// readPacket reads one short packet.
func readPacket(r io.Reader) (kind byte, body []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	length := int(head[1])
	if length >= 128 {
		var more [1]byte
		if _, err := io.ReadFull(r, more[:]); err != nil {
			return 0, nil, err
		}
		length = length&127 | int(more[0])<<7
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return head[0] >> 4, body, err
}
