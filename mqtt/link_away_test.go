package mqtt

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"
)

// answering is a listener that does the same with every connection.
func answering(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			do(conn)
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestALinkThatIsSentAwayTakesTheTimeOfTheCrowd(t *testing.T) {
	const crowd, limit = time.Minute, 3 * time.Minute
	server, client := selfSigned(t)
	failed := func(addr string) (*Link, error) {
		t.Helper()
		l, err := NewLink(LinkConfig{Servers: []string{"mqtts://" + addr}, ClientID: "n1", BackoffMax: limit, TLS: func(string) (*tls.Config, error) { return client, nil }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.serve(t.Context(), l.servers[0])
		return l, err
	}
	// longest of many first waits after err, each of which is at random.
	longest := func(l *Link, err error) (most time.Duration) {
		for range 200 {
			l.pause(nil)
			l.backoff.Reset()
			most = max(most, l.pause(err))
		}
		return most
	}
	l, away := failed(answering(t, func(net.Conn) {}))
	if most := longest(l, away); most >= time.Second {
		t.Errorf("sent away from nobody knows what crowd: waits up to %s; wanted the backoff's second", most)
	}
	l.SetCrowd(crowd)
	if most := longest(l, away); most < crowd/2 || most >= crowd {
		t.Errorf("sent away (%v): waits up to %s; wanted any time within %s", away, most, crowd)
	}
	for n, want := range map[int]time.Duration{2: crowd, 4: crowd, 5: 2 * crowd, 6: limit, 50: limit} { // sent away n times in a row
		most := time.Duration(0)
		for range 200 {
			l.pause(nil)
			for range n - 1 {
				l.pause(away)
			}
			most = max(most, l.pause(away))
		}
		if most < want*3/4 || most >= want {
			t.Errorf("sent away %d times: waits up to %s; wanted any time within %s", n, most, want)
		}
	}
	_, refused := failed(answering(t, func(conn net.Conn) { // one that speaks TLS, and drops whoever is in
		_ = tls.Server(conn, server).Handshake()
	}))
	if most := longest(l, refused); most >= time.Second {
		t.Errorf("after %v: waits up to %s; wanted the backoff's second, as nobody was sent away", refused, most)
	}
	if _, is := errors.AsType[*sentAwayError](refused); is {
		t.Errorf("%v is taken for one that was sent away", refused)
	}
	l.servers = append(l.servers, l.servers[0])
	for n, want := range map[int]time.Duration{1: time.Second, 2: crowd} { // of two addresses the other one may have room
		most := time.Duration(0)
		for range 200 {
			l.pause(nil)
			l.backoff.Reset()
			for range n - 1 {
				l.pause(away)
			}
			most = max(most, l.pause(away))
		}
		if most < want*3/4 || most >= want {
			t.Errorf("two addresses, sent away %d times: waits up to %s; wanted any time within %s", n, most, want)
		}
	}
}
