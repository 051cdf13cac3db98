package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/test/freeport"
)

// TestSingleSignOn lets people in with tokens of a real issuer, beside the other two ways in.
func TestSingleSignOn(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	var issuer *httptest.Server
	issuer = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := any(map[string]any{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys"})
		if r.URL.Path == "/keys" {
			answer = map[string]any{"keys": []map[string]string{{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64(pub)}}}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer issuer.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	token := func(group string) caller {
		body, err := json.Marshal(map[string]any{"iss": issuer.URL, "aud": "skerry", "sub": "alice", "groups": []string{group},
			"exp": time.Now().Add(time.Hour).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		input := b64([]byte(`{"alg":"EdDSA","kid":"k"}`)) + "." + b64(body)
		return caller{token: input + "." + b64(ed25519.Sign(key, []byte(input)))}
	}
	r := newRig(t, map[string]string{"http.oidc.issuer": issuer.URL, "http.oidc.client_id": "skerry", "http.oidc.ca_file": ca,
		"http.oidc.roles.viewer": "staff", "http.oidc.roles.admin": "site-admins"})
	eventually(t, "the issuer is known", func() bool {
		status, _ := r.call(token("staff"), "GET", "/v1/nodes", "")
		return status == http.StatusOK
	})
	for _, c := range []struct {
		who    caller
		method string
		status int
		says   string
	}{
		{token("staff"), "DELETE", 403, "takes admin"},
		{token("site-admins"), "DELETE", 404, "n9"},
		{token("guests"), "GET", 403, `\"guests\"`},
		{caller{token: "a.b.c"}, "GET", 401, "not accepted"},
		{r.root(), "GET", 404, "node_unknown"},
	} {
		if status, text := r.call(c.who, c.method, "/v1/nodes/n9", ""); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s; wanted %d with %s", c.method, status, text, c.status, c.says)
		}
	}
	list := r.audited()
	if last := list[0]; last.By != "oidc:alice" || last.Role != "admin" || last.Action != "node.remove" {
		t.Errorf("audit %+v", last)
	}
}

func TestAnIssuerThatIsAwayStopsNobodyElse(t *testing.T) {
	r := newRig(t, map[string]string{"http.oidc.issuer": "https://" + freeport.Addr(t), "http.oidc.client_id": "skerry", "http.oidc.roles.admin": "x"})
	eventually(t, "the log tells", func() bool { return strings.Contains(r.log.String(), "identity provider does not answer") })
	if status, text := r.call(r.root(), "GET", "/v1/nodes", ""); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	if status, text := r.call(caller{token: "a.b.c"}, "GET", "/v1/nodes", ""); status != http.StatusServiceUnavailable || !strings.Contains(text, "oidc_unavailable") {
		t.Errorf("%d %s", status, text)
	}
}
