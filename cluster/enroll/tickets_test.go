package enroll

import (
	"crypto/tls"
	"net"
	"testing"
	"time"
)

// listenTLS serves handshakes and the word "in" to whoever gets that far.
func listenTLS(t *testing.T, cfg *tls.Config) (addr string) {
	t.Helper()
	tcp, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			if err := conn.(*tls.Conn).HandshakeContext(t.Context()); err == nil {
				_, _ = conn.Write([]byte("in"))
			}
			conn.Close()
		}
	}()
	return tcp.Addr().String()
}

func TestATicketSparesTheHandshakeAndNotTheCheck(t *testing.T) {
	s := newSite(t, nil)
	listen := func(s *Service) string {
		l, err := NewListener(s.cfg.Authority, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		return listenTLS(t, s.BrokerTLS(l))
	}
	before := listen(s.Service)
	caches := map[*device]tls.ClientSessionCache{}
	dial := func(d *device, addr string) (resumed bool, err error) {
		if caches[d] == nil {
			caches[d] = tls.NewLRUClientSessionCache(1)
		}
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", addr, &tls.Config{RootCAs: s.cfg.Authority.Pool(), Time: s.clock.now,
			ServerName: "127.0.0.1", ClientSessionCache: caches[d], Certificates: []tls.Certificate{{Certificate: [][]byte{d.cert.Raw}, PrivateKey: d.key}}})
		if err != nil {
			return false, err
		}
		defer conn.Close()
		_, err = conn.Read(make([]byte, 2))
		return conn.ConnectionState().DidResume, err
	}
	want := func(what string, d *device, addr string, in, resumed bool) {
		t.Helper()
		if got, err := dial(d, addr); (err == nil) != in || in && got != resumed {
			t.Errorf("%s: resumed %v, %v; wanted in %v, resumed %v", what, got, err, in, resumed)
		}
	}
	stays, removed := s.device(t), s.device(t)
	stays.enroll(t, s.token(t, TokenSpec{}), "n1")
	removed.enroll(t, s.token(t, TokenSpec{}), "n2")
	for _, d := range []*device{stays, removed} {
		want("first connect", d, before, true, false)
		want("second connect", d, before, true, true)
	}

	authority, err := OpenAuthority(t.Context(), s.cfg.Authority.cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.cfg
	cfg.Authority = authority
	again, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	after := listen(again)
	want("after a restart", stays, after, true, true)

	if err := again.Remove("n2", "ann"); err != nil {
		t.Fatal(err)
	}
	want("removed, with a ticket", removed, after, false, false)
	caches[removed] = nil
	want("removed, without", removed, after, false, false)

	s.clock.add(day)
	want("the next day", stays, after, true, true)
	s.clock.add(3 * day)
	want("three days later", stays, after, true, false)
	s.clock.add(90 * day)
	want("expired", stays, after, false, false)
}
