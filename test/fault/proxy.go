package fault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/skerry-edge/skerry/cluster/enroll"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/mqtt"
)

// Mischief is what the proxy does to MQTT packets, each a share of those it concerns.
type Mischief struct {
	Twice   float64 // PUBLISHes that come twice, the second with DUP: what a sender does that missed the PUBACK
	Swap    float64 // PUBLISHes that the next packet of another id overtakes
	CutAcks float64 // PUBACKs in whose place the connection ends, so that what is stored is sent again
}

// Proxy stands between some nodes and the broker. It has the server's certificate and the nodes' keys, both lent by the
// rig, and so reads what is encrypted between them.
type Proxy struct {
	keys     func(node string) string // directory of a node's identity
	server   *tls.Config
	dial     func(ctx context.Context) (net.Conn, error)
	host     string // whom the broker has to be
	mischief atomic.Pointer[Mischief]
	done     struct{ twice, swapped, cut atomic.Int64 }
	life     context.Context
	work     sync.WaitGroup
}

func (r *Rig) startProxy() (*Proxy, error) {
	_, self := addrOf(tierProxy)
	_, cluster := addrOf(tierCluster)
	authority, err := enroll.OpenAuthority(r.life, enroll.AuthorityConfig{Dir: r.clusterDir(), Cluster: "fault"})
	if err != nil {
		return nil, fmt.Errorf("lend the proxy the CA: %w", err)
	}
	listener, err := enroll.NewListener(authority, self.String(), cluster.String())
	if err != nil {
		return nil, err
	}
	p := &Proxy{host: cluster.String(), life: r.life, keys: func(node string) string {
		if t := r.tiers[node]; t != nil {
			return filepath.Join(t.Disk, "state")
		}
		return filepath.Join(r.identities(), node)
	}}
	p.mischief.Store(&Mischief{})
	p.server = &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: listener.GetCertificate, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"mqtt"}}
	p.dial = func(ctx context.Context) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: self.AsSlice()}, Timeout: 5 * time.Second}
		return d.DialContext(ctx, "tcp", cluster.String()+":"+mqttPort)
	}
	ln, err := net.Listen("tcp", self.String()+":"+mqttPort)
	if err != nil {
		return nil, fmt.Errorf("listen as proxy: %w", err)
	}
	r.closers = append(r.closers, ln)
	r.work.Go(func() { p.serve(ln) })
	return p, nil
}

// serve takes connections until ln is closed, and returns when all of them have ended.
func (p *Proxy) serve(ln net.Listener) {
	defer p.work.Wait()
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.work.Go(func() { _ = p.pass(conn) }) // how it ended shows on both sides
		}
	}
}

// pass joins a client to the broker until either hangs up.
func (p *Proxy) pass(raw net.Conn) error {
	ctx, cancel := context.WithCancel(p.life)
	defer cancel()
	client := tls.Server(raw, p.server)
	defer client.Close()
	hctx, done := context.WithTimeout(ctx, 10*time.Second)
	defer done()
	if err := client.HandshakeContext(hctx); err != nil {
		return err
	}
	broker, err := p.broker(hctx, client.ConnectionState().PeerCertificates[0])
	if err != nil {
		return err
	}
	defer broker.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)); _ = broker.NetConn().SetDeadline(time.Unix(1, 0)) })
	defer stop()
	up, down := &stream{proxy: p, from: client, to: broker}, &stream{proxy: p, from: broker, to: client}
	up.back, down.back = down, up
	errs := make(chan error, 2)
	for _, s := range []*stream{up, down} {
		go func() { errs <- s.copy() }() // ends with either connection
	}
	err = <-errs
	cancel()
	_, _ = raw.Close(), broker.NetConn().Close()
	<-errs
	return err
}

// broker connects to the broker as the node whose certificate was shown.
func (p *Proxy) broker(ctx context.Context, cert *x509.Certificate) (*tls.Conn, error) {
	who, err := mqtt.IdentityOf(cert)
	if err != nil {
		return nil, err
	}
	id, err := identity.Load(p.keys(who.Name))
	if err != nil {
		return nil, err
	}
	own := id.TLSCertificate()
	own.Certificate = [][]byte{cert.Raw} // the very one that was shown
	raw, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: id.Pool(), ServerName: p.host, Certificates: []tls.Certificate{own},
		NextProtos: []string{"mqtt"}})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}

// stream is one direction of a connection.
type stream struct {
	proxy    *Proxy
	from, to net.Conn
	back     *stream

	mu      sync.Mutex // of what follows, and of writes to to
	held    *packets.PublishPacket
	release *time.Timer
	extra   map[uint16]int // PUBACKs that answer our own second copies
}

// heldFor bounds the wait of a packet that is to be overtaken.
const heldFor = 1200 * time.Millisecond

func (s *stream) copy() error {
	for {
		packet, err := packets.ReadPacket(s.from)
		if err != nil {
			return err
		}
		if err := s.take(packet); err != nil {
			return err
		}
	}
}

var errCut = errors.New("cut")

func (s *stream) take(packet packets.ControlPacket) error {
	m := s.proxy.mischief.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch p := packet.(type) {
	case *packets.PubackPacket:
		if s.back.ours(p.MessageID) {
			return nil
		}
		if m.CutAcks > 0 && rand.Float64() < m.CutAcks {
			s.proxy.done.cut.Add(1)
			return errCut
		}
	case *packets.PublishPacket:
		if s.held == nil && m.Swap > 0 && rand.Float64() < m.Swap {
			s.held = p
			s.release = time.AfterFunc(heldFor, s.let)
			return nil
		}
		if err := s.publish(p, m); err != nil {
			return err
		}
		if s.held != nil {
			s.proxy.done.swapped.Add(1)
			return s.flush()
		}
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	return write(s.to, packet)
}

// publish passes one on, perhaps twice. mu is held.
func (s *stream) publish(p *packets.PublishPacket, m *Mischief) error {
	if err := write(s.to, p); err != nil || p.Qos == 0 || m.Twice == 0 || rand.Float64() >= m.Twice {
		return err
	}
	again := *p
	again.Dup = true
	if s.extra == nil {
		s.extra = map[uint16]int{}
	}
	s.extra[p.MessageID]++
	s.proxy.done.twice.Add(1)
	return write(s.to, &again)
}

// ours tells of a PUBACK, which came the other way, whether one more of its id is due: the first of two is swallowed, so
// that the id is not used anew while the second is on its way.
func (s *stream) ours(id uint16) bool {
	if !s.mu.TryLock() { // this direction is at a write; a PUBACK more does no harm
		return false
	}
	defer s.mu.Unlock()
	if s.extra[id] == 0 {
		return false
	}
	if s.extra[id]--; s.extra[id] == 0 {
		delete(s.extra, id)
	}
	return true
}

// let ends the wait of a packet that nothing overtook.
func (s *stream) let() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.flush() // a connection that is gone is told of where it is read
}

func (s *stream) flush() error {
	if s.held == nil {
		return nil
	}
	p := s.held
	s.held = nil
	s.release.Stop()
	return write(s.to, p)
}

// write sends a packet with one write.
func write(conn net.Conn, p packets.ControlPacket) error {
	var buf bytes.Buffer
	if err := p.Write(&buf); err != nil {
		return err
	}
	_, err := conn.Write(buf.Bytes())
	return err
}

// identities is where the crowd's certificates are.
func (r *Rig) identities() string { return filepath.Join(r.cfg.Dir, "identities") }

// readIfAny is the content of a file, nil when there is none.
func readIfAny(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}
