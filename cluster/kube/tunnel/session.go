package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rancher/remotedialer"
)

const (
	handshakeWithin = 10 * time.Second
	dialWithin      = 10 * time.Second
	path            = "/v1-k3s/connect"
)

// serve has one websocket with the server, until it ends or ctx does, and joins all that came through it. remotedialer's own loop
// (ConnectToProxy) is not taken, for it returns while its goroutines still run.
func (s *session) serve(ctx context.Context) error {
	dialer := &websocket.Dialer{TLSClientConfig: s.cfg.TLS, HandshakeTimeout: handshakeWithin}
	ws, resp, err := dialer.DialContext(ctx, "wss://"+s.address+path, nil)
	if err != nil {
		return refusal(resp, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &dials{open: s.cfg.Open, host: s.cfg.Host, conns: map[*tracked]bool{}}
	// To let the authorizer refuse would end the session, and with it everybody else's logs: dials refuses the one connection.
	all := func(string, string) bool { return true }
	session := remotedialer.NewClientSessionWithDialer(all, ws, d.dial)
	cut := context.AfterFunc(ctx, func() { _ = ws.Close() })
	s.note(true, nil)
	_, err = session.Serve(ctx)
	cancel()
	cut()
	_ = ws.Close()
	session.Close()
	d.end()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("session ended: %w", err)
}

// refusal is why there is no websocket, with the cure where it is known.
func refusal(resp *http.Response, err error) error {
	if resp == nil {
		return fmt.Errorf("connect: %w", err)
	}
	cure := ""
	switch resp.StatusCode {
	case http.StatusNotFound:
		cure = "; it is no k3s server: set kube.kubelet_via: direct"
	case http.StatusUnauthorized, http.StatusForbidden:
		cure = "; it does not take our client certificate"
	}
	return fmt.Errorf("connect: the server answers %s%s", resp.Status, cure)
}

// dials are the connections that a server asked for.
type dials struct {
	open func(port int) bool
	host string

	mu    sync.Mutex
	ended bool
	conns map[*tracked]bool
	all   sync.WaitGroup
}

var errEnded = errors.New("the session has ended")

// dial connects to the kubelet API of one of our nodes, and to nothing else. A server that wants such a port names its own loopback
// address, whichever it is; we go to where ours are.
func (d *dials) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %q: %w", address, err)
	}
	port, err := strconv.Atoi(text)
	if ip := net.ParseIP(host); err != nil || !strings.HasPrefix(network, "tcp") || ip == nil || !ip.IsLoopback() || !d.open(port) {
		return nil, fmt.Errorf("dial %s %s: wanted tcp, a loopback address, and the kubelet port of a virtual node", network, address)
	}
	d.mu.Lock()
	if d.ended {
		d.mu.Unlock()
		return nil, errEnded
	}
	d.all.Add(1)
	d.mu.Unlock()
	conn, err := (&net.Dialer{Timeout: dialWithin}).DialContext(ctx, "tcp", net.JoinHostPort(d.host, text))
	if err != nil {
		d.all.Done()
		return nil, err
	}
	c := &tracked{Conn: conn, of: d}
	d.mu.Lock()
	d.conns[c] = true
	ended := d.ended
	d.mu.Unlock()
	if ended {
		_ = c.Close()
		return nil, errEnded
	}
	return c, nil
}

// end closes all connections, and returns when they are closed and none can be opened.
func (d *dials) end() {
	d.mu.Lock()
	d.ended = true
	conns := d.conns
	d.conns = map[*tracked]bool{}
	d.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	d.all.Wait()
}

// tracked tells when it is closed.
type tracked struct {
	net.Conn
	of   *dials
	once sync.Once
}

func (c *tracked) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.Conn.Close()
		c.of.mu.Lock()
		delete(c.of.conns, c)
		c.of.mu.Unlock()
		c.of.all.Done()
	})
	return err
}
