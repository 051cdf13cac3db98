package identity

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/edge/exchange"
	"github.com/skerry-edge/skerry/test/enrolment"
)

func TestAServerOfFilesIsTrustedUnderTheClustersCAAndWhatTheSystemTrusts(t *testing.T) {
	now := enrolment.Around(time.Now())
	ours, others := enrolment.NewCA(t, now), enrolment.NewCA(t, now)
	id := &Identity{CA: ours.PEM()}
	ask := func(ca *enrolment.CA) error {
		shown := false
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { shown = len(r.TLS.PeerCertificates) > 0 }))
		server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server(now, "127.0.0.1")}, ClientAuth: tls.RequestClientCert}
		server.StartTLS()
		defer server.Close()
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&exchange.Request{URL: u, TLS: id.MirrorTLS()}).Do(t.Context())
		if err != nil {
			return err
		}
		if shown {
			t.Error("it was shown a certificate")
		}
		return resp.Body.Close()
	}
	if err := ask(ours); err != nil {
		t.Error(err)
	}
	if err := ask(others); err == nil {
		t.Error("another CA is trusted")
	}
	both, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	both.AddCert(ours.Cert)
	if !id.MirrorTLS().RootCAs.Equal(both) {
		t.Error("it trusts something else than the system's roots and the cluster's CA")
	}
}
