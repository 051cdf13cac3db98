package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
)

func withLeaf(leaf string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{[]byte(leaf)}}}}
}

func TestATLSSessionIsKeptForTheSameCertificateAlone(t *testing.T) {
	var s tickets
	cache := func(cfg *tls.Config) tls.ClientSessionCache {
		s.use(cfg)
		return cfg.ClientSessionCache
	}
	first := cache(withLeaf("old"))
	if first == nil || cache(withLeaf("old")) != first {
		t.Error("the same certificate does not get the same sessions")
	}
	if renewed := cache(withLeaf("new")); renewed == nil || renewed == first {
		t.Error("a renewed certificate gets the sessions of the old one: the broker would go by that")
	}
	if cache(&tls.Config{}) != nil {
		t.Error("sessions are kept without a certificate to tell whose they are")
	}
}

func TestALinkThatComesBackTakesUpItsTLSSession(t *testing.T) {
	server, client := selfSigned(t)
	client.Certificates = server.Certificates // any will do: this broker asks for one and checks none
	server.ClientAuth = tls.RequestClientCert
	resumed := make(chan bool, 64)
	server.VerifyConnection = func(cs tls.ConnectionState) error { resumed <- cs.DidResume; return nil }
	b := startMochi(t, server, client)
	x := tap(t, b, b.addr, "n1", "", nil)
	for i, want := range []bool{false, true, true} {
		ctx, cancel := context.WithTimeout(t.Context(), linkPatience)
		if err := x.AwaitUp(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		if got := <-resumed; got != want {
			t.Errorf("connection %d: resumed %v; wanted %v", i, got, want)
		}
		if i < 2 { // while the link is up: mochi takes nobody while it closes
			b.stop()
			<-x.downs
			b.start()
		}
	}
}

func TestATLSSessionIsForgottenWhenItMayBeTheFault(t *testing.T) {
	for what, c := range map[string]struct {
		err  error
		kept bool
	}{
		"sent away before the handshake": {io.EOF, true},
		"cut":                            {fmt.Errorf("TLS: %w", &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}), true},
		"timed out":                      {os.ErrDeadlineExceeded, true},
		"refused in TLS":                 {fmt.Errorf("wait for CONNACK: %w", &net.OpError{Op: "remote error", Err: tls.AlertError(42)}), false},
		"refused in MQTT":                {&RefusedError{Code: 5}, false},
		"server not trusted":             {errors.New("verify server certificate: expired"), false},
	} {
		var s tickets
		s.use(withLeaf("mine"))
		if s.failed(c.err); (s.cache != nil) != c.kept {
			t.Errorf("%s: kept %v; wanted %v", what, s.cache != nil, c.kept)
		}
	}
}
