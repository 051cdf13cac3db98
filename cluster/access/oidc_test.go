package access

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/freeport"
)

// issuer is an OpenID Connect issuer: discovery and keys over TLS, signatures made here.
type issuer struct {
	*httptest.Server
	ca      string // file
	fetches atomic.Int32
	broken  atomic.Bool // keys cannot be had

	mu   sync.Mutex
	keys map[string]crypto.Signer // by key id
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{keys: map[string]crypto.Signer{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(t, w, map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/auth",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.fetches.Add(1)
		if i.broken.Load() {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		set := []map[string]string{}
		for id, key := range i.keys {
			set = append(set, jwk(id, key))
		}
		sendJSON(t, w, map[string]any{"keys": set})
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	i.ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})
	if err := os.WriteFile(i.ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

func sendJSON(t *testing.T, w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Error(err)
	}
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func jwk(id string, key crypto.Signer) map[string]string {
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "kid": id, "use": "sig", "n": b64(pub.N.Bytes()), "e": b64(big.NewInt(int64(pub.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			return nil
		}
		return map[string]string{"kty": "EC", "kid": id, "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "kid": id, "crv": "Ed25519", "x": b64(pub)}
	}
	return nil
}

// key makes a key that the issuer publishes from now on, alone.
func (i *issuer) key(t *testing.T, id, alg string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case "ES256", "ES384":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = map[string]crypto.Signer{id: key}
	return key
}

// sign makes a token. The algorithm is what the header says, whatever key that takes.
func sign(t *testing.T, key crypto.Signer, alg, id string, claims map[string]any) string {
	t.Helper()
	head, err1 := json.Marshal(map[string]string{"alg": alg, "kid": id, "typ": "JWT"})
	body, err2 := json.Marshal(claims)
	input := b64(head) + "." + b64(body)
	sum := sha256.Sum256([]byte(input))
	var sig []byte
	err := errors.Join(err1, err2)
	if err != nil {
		t.Fatal(err)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		switch alg {
		case "PS256":
			sig, err = rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		case "HS256": // the public key as a shared secret: the classic confusion
			der, merr := x509.MarshalPKIXPublicKey(k.Public())
			mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
			mac.Write([]byte(input))
			sig, err = mac.Sum(nil), merr
		case "none":
		default:
			sig, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		}
	case *ecdsa.PrivateKey:
		r, s, serr := ecdsa.Sign(rand.Reader, k, sum[:])
		sig, err = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), serr
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, []byte(input))
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(sig)
}

// ticking is a clock that a test moves.
type ticking struct {
	mu sync.Mutex
	t  time.Time
}

func (c *ticking) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *ticking) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type oidcRig struct {
	*OIDC
	issuer *issuer
	clock  *ticking
}

func (r *oidcRig) claims(more map[string]any) map[string]any {
	out := map[string]any{"iss": r.issuer.URL, "aud": "skerry", "sub": "alice", "groups": []string{"staff", "site-ops"},
		"iat": r.clock.now().Unix(), "exp": r.clock.now().Add(time.Hour).Unix()}
	for k, v := range more {
		if out[k] = v; v == nil {
			delete(out, k)
		}
	}
	return out
}

func newOIDCRig(t *testing.T) *oidcRig {
	t.Helper()
	r := &oidcRig{issuer: newIssuer(t), clock: &ticking{t: time.Now()}}
	var err error
	r.OIDC, err = NewOIDC(OIDCConfig{Issuer: r.issuer.URL, ClientID: "skerry", UsernameClaim: "sub", GroupsClaim: "groups",
		Roles: RolesOf([]string{"staff"}, []string{"site-ops"}, []string{"site-admins"}), CAFile: r.issuer.ca,
		Log: slog.New(slog.DiscardHandler), Now: r.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// afterRotation is Authenticate once the library no longer takes the fetch before for one that is under way: it gives its
// answer out a moment before it forgets it, and a token of that moment is judged by the keys of before.
func (r *oidcRig) afterRotation(t *testing.T, token string) (Principal, error) {
	t.Helper()
	p, err := r.Authenticate(t.Context(), token)
	for limit := time.Now().Add(time.Minute); err != nil && time.Now().Before(limit); {
		p, err = r.Authenticate(t.Context(), token)
	}
	return p, err
}

func code(err error) (int, string) {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p.Status, p.Code
	}
	return 0, ""
}

func TestATokenOfTheIssuerGivesTheHighestRoleOfItsGroups(t *testing.T) {
	r := newOIDCRig(t)
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		key := r.issuer.key(t, alg, alg)
		r.clock.add(fetchEvery)
		p, err := r.afterRotation(t, sign(t, key, alg, alg, r.claims(nil)))
		if err != nil || p != (Principal{Name: "oidc:alice", Role: api.RoleOperator, Via: ViaREST}) {
			t.Errorf("%s: %+v, %v", alg, p, err)
		}
	}
	key := r.issuer.key(t, "one", "RS256")
	r.clock.add(fetchEvery)
	p, err := r.afterRotation(t, sign(t, key, "RS256", "one", r.claims(map[string]any{"groups": "site-admins"})))
	if err != nil || p.Role != api.RoleAdmin {
		t.Errorf("a group as a text: %+v, %v", p, err)
	}
}

func TestATokenThatIsNotQuiteRightIsRefused(t *testing.T) {
	r := newOIDCRig(t)
	key := r.issuer.key(t, "k", "RS256")
	good := sign(t, key, "RS256", "k", r.claims(nil))
	if _, err := r.Authenticate(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) int64 { return r.clock.now().Add(d).Unix() }
	with := func(k string, v any) string { return sign(t, key, "RS256", "k", r.claims(map[string]any{k: v})) }
	parts := strings.Split(good, ".")
	forged := b64([]byte(`{"iss":"` + r.issuer.URL + `","aud":"skerry","sub":"eve","groups":["site-admins"],"exp":99999999999}`))
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token  string
		status int
		code   string
		says   string
	}{
		"another issuer":         {with("iss", "https://elsewhere.example"), 401, CodeInvalid, "elsewhere"},
		"another audience":       {with("aud", "grafana"), 401, CodeInvalid, "grafana"},
		"no audience":            {with("aud", nil), 401, CodeInvalid, "audience"},
		"expired":                {with("exp", at(-2*time.Minute)), 401, CodeExpired, "expired at"},
		"no expiry":              {with("exp", nil), 401, CodeExpired, "expired"},
		"not yet":                {with("nbf", at(10*time.Minute)), 401, CodeInvalid, "nbf"},
		"another payload":        {parts[0] + "." + forged + "." + parts[2], 401, CodeInvalid, "signature"},
		"another's signature":    {sign(t, stranger, "RS256", "k", r.claims(nil)), 401, CodeInvalid, ""},
		"alg none":               {sign(t, key, "none", "k", r.claims(nil)), 401, CodeInvalid, ""},
		"alg HS256":              {sign(t, key, "HS256", "k", r.claims(nil)), 401, CodeInvalid, "HS256"},
		"alg RS512":              {sign(t, key, "RS512", "k", r.claims(nil)), 401, CodeInvalid, "RS512"},
		"no token":               {"a.b.c", 401, CodeInvalid, ""},
		"nothing":                {"", 401, CodeInvalid, ""},
		"too long":               {with("padding", strings.Repeat("x", maxIDToken)), 401, CodeInvalid, "at most 16384"},
		"no name":                {with("sub", nil), 403, CodeClaims, "sub"},
		"a name of two lines":    {with("sub", "a\nb"), 403, CodeClaims, "printable"},
		"a number for a name":    {with("sub", 7), 401, CodeInvalid, ""},
		"no groups":              {with("groups", nil), 403, CodeClaims, "not in the token"},
		"groups of another form": {with("groups", map[string]any{"a": 1}), 403, CodeClaims, "list of texts"},
		"groups without a role":  {with("groups", []string{"guests", "visitors"}), 403, CodeGroups, `"guests", "visitors"`},
		"empty groups":           {with("groups", []string{}), 403, CodeGroups, "there are none"},
	} {
		p, err := r.Authenticate(t.Context(), c.token)
		status, code := code(err)
		if status != c.status || code != c.code || !strings.Contains(err.Error(), c.says) || p.Role != "" {
			t.Errorf("%s: %d %s %v, role %q; wanted %d %s with %q", name, status, code, err, p.Role, c.status, c.code, c.says)
		}
	}
}

func TestClocksMayDifferALittle(t *testing.T) {
	r := newOIDCRig(t)
	key := r.issuer.key(t, "k", "ES256")
	for _, skew := range []map[string]any{{"exp": r.clock.now().Add(-50 * time.Second).Unix()}, {"nbf": r.clock.now().Add(2 * time.Minute).Unix()}} {
		if _, err := r.Authenticate(t.Context(), sign(t, key, "ES256", "k", r.claims(skew))); err != nil {
			t.Errorf("%v: %v", skew, err)
		}
	}
}

func TestAnAddressThatNobodyCheckedIsNoName(t *testing.T) {
	r := newOIDCRig(t)
	r.cfg.UsernameClaim = "email"
	key := r.issuer.key(t, "k", "ES256")
	token := func(verified any) string {
		return sign(t, key, "ES256", "k", r.claims(map[string]any{"email": "a@x.example", "email_verified": verified}))
	}
	if p, err := r.Authenticate(t.Context(), token(true)); err != nil || p.Name != "oidc:a@x.example" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := r.Authenticate(t.Context(), token(false)); err == nil {
		t.Error("an unverified address was taken for a name")
	}
	if _, err := r.Authenticate(t.Context(), sign(t, key, "ES256", "k", r.claims(map[string]any{"email": "a@x.example"}))); err == nil {
		t.Error("an address of which nobody says that it is verified was taken for a name")
	}
}

func TestKeysRotate(t *testing.T) {
	r := newOIDCRig(t)
	first := r.issuer.key(t, "k1", "ES256")
	old := sign(t, first, "ES256", "k1", r.claims(nil))
	if _, err := r.Authenticate(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	second := r.issuer.key(t, "k2", "ES256")
	r.clock.add(fetchEvery)
	fresh := sign(t, second, "ES256", "k2", r.claims(nil))
	if _, err := r.afterRotation(t, fresh); err != nil {
		t.Errorf("new key: %v", err)
	}
	_, err := r.Authenticate(t.Context(), old)
	for limit := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(limit); { // the library gives its answer out a moment before it keeps it
		_, err = r.Authenticate(t.Context(), old)
	}
	if err == nil {
		t.Error("a key that the issuer withdrew is still good")
	}
}

func TestAKeyThatIsWithdrawnIsForgottenWithoutANewOne(t *testing.T) {
	r := newOIDCRig(t)
	key := r.issuer.key(t, "k1", "ES256")
	token := sign(t, key, "ES256", "k1", r.claims(nil))
	if _, err := r.Authenticate(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	r.issuer.key(t, "k2", "ES256")
	if err := r.discover(t.Context()); err != nil { // as Run does every hour
		t.Fatal(err)
	}
	if _, err := r.Authenticate(t.Context(), token); err == nil {
		t.Error("still good")
	}
}

func TestInventedKeyIDsDoNotHammerTheIssuer(t *testing.T) {
	r := newOIDCRig(t)
	key := r.issuer.key(t, "k", "ES256")
	good := sign(t, key, "ES256", "k", r.claims(nil))
	for n := range 50 {
		token := sign(t, key, "ES256", "invented-"+string(rune('a'+n%26)), r.claims(nil))
		if status, _ := code(second(r.Authenticate(t.Context(), token))); status != http.StatusUnauthorized {
			t.Fatalf("answer %d", status)
		}
	}
	if n := r.issuer.fetches.Load(); n != 1 {
		t.Errorf("%d fetches; wanted 1", n)
	}
	if _, err := r.Authenticate(t.Context(), good); err != nil {
		t.Errorf("good token meanwhile: %v", err)
	}
}

func second[A, B any](_ A, b B) B { return b }

func TestKeysThatCannotBeHadAreNotTheBearersFault(t *testing.T) {
	r := newOIDCRig(t)
	key := r.issuer.key(t, "k", "ES256")
	token := sign(t, key, "ES256", "k", r.claims(nil))
	r.issuer.broken.Store(true)
	if status, c := code(second(r.Authenticate(t.Context(), token))); status != http.StatusServiceUnavailable || c != CodeIssuer {
		t.Errorf("%d %s", status, c)
	}
	r.issuer.broken.Store(false)
	r.clock.add(fetchEvery)
	if _, err := r.afterRotation(t, token); err != nil {
		t.Errorf("after it was mended: %v", err)
	}
}

func TestAnIssuerThatIsAwayAtTheStartIsAskedAgain(t *testing.T) {
	i := newIssuer(t)
	key := i.key(t, "k", "ES256")
	addr := freeport.Addr(t) // where nobody answers yet
	var log safeBuffer
	url := "https://" + addr
	o, err := NewOIDC(OIDCConfig{Issuer: url, ClientID: "skerry", UsernameClaim: "sub", GroupsClaim: "groups",
		Roles: RolesOf([]string{"staff"}, nil, nil), CAFile: i.ca, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	token := sign(t, key, "ES256", "k", map[string]any{"iss": url, "aud": "skerry", "sub": "bob", "groups": "staff",
		"exp": time.Now().Add(time.Hour).Unix()})
	eventually(t, "warned", func() bool { return strings.Contains(log.String(), "identity provider does not answer") })
	if status, c := code(second(o.Authenticate(ctx, token))); status != http.StatusServiceUnavailable || c != CodeIssuer {
		t.Errorf("meanwhile: %d %s", status, c)
	}
	late := lateIssuer(t, i, addr)
	defer late.Close()
	eventually(t, "let in", func() bool { p, err := o.Authenticate(ctx, token); return err == nil && p.Role == api.RoleViewer })
	if !strings.Contains(log.String(), "identity provider answers") {
		t.Errorf("log: %s", log.String())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// lateIssuer is i under another address, with the same certificate.
func lateIssuer(t *testing.T, i *issuer, addr string) *http.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/keys", i.Config.Handler)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(t, w, map[string]any{"issuer": "https://" + addr, "jwks_uri": "https://" + addr + "/keys"})
	})
	srv := &http.Server{Addr: addr, Handler: mux, TLSConfig: i.TLS.Clone(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go func() {
		if err := srv.ListenAndServeTLS("", ""); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	return srv
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never %s", what)
		}
	}
}

func TestAnIssuerThatIsNotWhatItShouldBeIsNotTrusted(t *testing.T) {
	for name, c := range map[string]struct {
		doc  map[string]any
		says string
	}{
		"another name":   {map[string]any{"issuer": "https://elsewhere.example", "jwks_uri": "https://elsewhere.example/keys"}, "did not match"},
		"keys in clear":  {map[string]any{"jwks_uri": "http://keys.example/keys"}, "jwks_uri"},
		"no keys at all": {map[string]any{}, "jwks_uri"},
	} {
		var srv *httptest.Server
		srv = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			doc := map[string]any{"issuer": srv.URL}
			for k, v := range c.doc {
				doc[k] = v
			}
			sendJSON(t, w, doc)
		}))
		ca := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := OIDCConfig{Issuer: srv.URL, ClientID: "skerry", UsernameClaim: "sub", GroupsClaim: "groups", CAFile: ca, Log: slog.New(slog.DiscardHandler)}
		o, err := NewOIDC(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.discover(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; wanted %q", name, err, c.says)
		}
		cfg.CAFile = ""
		if o, err = NewOIDC(cfg); err == nil {
			err = o.discover(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: without its CA: %v", name, err)
		}
		srv.Close()
	}
	if _, err := NewOIDC(OIDCConfig{Issuer: "https://x.example", ClientID: "c", UsernameClaim: "sub", GroupsClaim: "groups",
		CAFile: filepath.Join(t.TempDir(), "none"), Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a CA file that is not there was no fault")
	}
}
