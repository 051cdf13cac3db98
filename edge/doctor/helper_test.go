package doctor

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// noon is when the tests take place, for node and cluster.
func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

func at(when time.Time) *agent.Clock {
	return agent.NewClock(noon().Add(-30*24*time.Hour), agent.ClockSource{System: func() time.Time { return when },
		Synced: func() bool { return true }})
}

// joining is a node with a join string.
func joining(join api.Join) *Patient {
	clock := at(noon())
	return &Patient{Clock: clock, Join: &join, Client: &identity.Client{Clock: clock}, Node: "pump-3",
		PutJoin: "here: write it to /etc/skerry/edge.join"}
}

// enrolled is a node with a certificate of s, and the brokers at the addresses.
func enrolled(t *testing.T, s *enrolment.Service, brokers ...string) *Patient {
	t.Helper()
	id, err := identity.New("pump-3")
	if err != nil {
		t.Fatal(err)
	}
	csr, err := id.CSR()
	if err != nil {
		t.Fatal(err)
	}
	reply := s.Issue("pump-3", csr)
	reply.MQTT = brokers
	if id, err = id.With(reply, ""); err != nil {
		t.Fatal(err)
	}
	clock := at(noon())
	return &Patient{Clock: clock, Identity: id, Client: &identity.Client{Clock: clock}, Node: "pump-3"}
}

// serve answers each connection to a listener with answer, until the test ends.
func serve(t *testing.T, l net.Listener, answer func(net.Conn)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				answer(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// broker speaks TLS with cert and answers CONNECT with a CONNACK of code; a negative one closes the connection instead.
func broker(t *testing.T, cert tls.Certificate, code int) string {
	t.Helper()
	l := listen(t)
	serve(t, tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"mqtt"}}), func(conn net.Conn) {
		if tc, ok := conn.(*tls.Conn); !ok || tc.Handshake() != nil || code < 0 {
			return
		}
		if _, err := conn.Read(make([]byte, 512)); err != nil {
			return
		}
		conn.Write([]byte{0x20, 2, 0, byte(code)})
		io.Copy(io.Discard, conn)
	})
	return "mqtts://" + l.Addr().String()
}

// old speaks TLS 1.2 at most.
func old(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	l := listen(t)
	serve(t, tls.NewListener(l, &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}), func(conn net.Conn) {
		io.Copy(io.Discard, conn)
	})
	return "https://" + l.Addr().String()
}

// plain does not speak TLS.
func plain(t *testing.T) string {
	t.Helper()
	l := listen(t)
	serve(t, l, func(conn net.Conn) {
		if _, err := conn.Read(make([]byte, 512)); err == nil {
			conn.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"))
		}
	})
	return "https://" + l.Addr().String()
}

// closed refuses connections: its port is held, so that nobody else listens there, but not listened on.
func closed(t *testing.T) string {
	t.Helper()
	_, to := bound(t)
	return "https://" + to
}

// bound is a socket with a port of this machine that does not listen.
func bound(t *testing.T) (fd int, address string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in4, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("socket has address %T", name)
	}
	return fd, (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: in4.Port}).String()
}

// silent drops what is sent to it, as a firewall does: a listener whose queue is full answers no SYN (listen(2)).
func silent(t *testing.T) string {
	t.Helper()
	fd, to := bound(t)
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 8 { // with a second for each: a call that is answered late has filled a place all the same
		conn, err := net.DialTimeout("tcp", to, time.Second)
		if err != nil {
			return "https://" + to
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue of a listener does not fill")
	return ""
}

// verdict is what the doctor found.
type verdict struct {
	last  Finding
	steps []string // in order
	text  string
}

func examine(t *testing.T, p *Patient) verdict {
	t.Helper()
	var v verdict
	var b strings.Builder
	v.last = Diagnose(t.Context(), p, func(f Finding) {
		if v.last.Step != "" || len(v.steps) > 0 && strings.Contains(b.String(), "FAIL") {
			t.Errorf("went on after a failure: %+v", f)
		}
		v.steps = append(v.steps, f.Step)
		if err := f.Write(&b); err != nil {
			t.Error(err)
		}
	})
	v.text = b.String()
	return v
}
