package update

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAReleaseServerIsTrustedByWhatTheNodeTrustsAndShownNoCertificate(t *testing.T) {
	m := newMirror(t, "2.0.0", program("2.0.0"))
	server := httptest.NewTLSServer(m.Config.Handler)
	defer server.Close()
	i := m.installer(t, opened(t))
	i.Site.TLS = func(string) *tls.Config {
		t.Error("the node's own certificate is for the cluster agent")
		return nil
	}
	want := Want{Version: "2.0.0", URL: server.URL + "/v1/releases"}
	if err := i.Install(t.Context(), want, func(string) {}); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("%v; wanted a CA that the system does not have to be refused", err)
	}
	i.Site.Mirror = func() *tls.Config { return server.Client().Transport.(*http.Transport).TLSClientConfig }
	if err := i.Install(t.Context(), want, func(string) {}); err != nil {
		t.Error(err)
	}
}

func TestARedirectOfAReleaseServerIsNotFollowed(t *testing.T) {
	m := newMirror(t, "2.0.0", program("2.0.0"))
	server := httptest.NewServer(http.RedirectHandler(m.URL, http.StatusFound))
	defer server.Close()
	err := m.installer(t, opened(t)).Install(t.Context(), Want{Version: "2.0.0", URL: server.URL}, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "302 Found") || len(m.got) > 0 {
		t.Errorf("%v, asked for %q; wanted to be told of the redirect, and nothing asked of where it points", err, m.got)
	}
}
