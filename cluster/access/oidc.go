package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

const (
	maxIDToken = 16 << 10 // bytes; one with two hundred groups fits in
	// clockSkew is by how much the issuer's clock may be behind ours when a token expires. A token that is not valid yet
	// is taken for up to 5 min less this (the library's own).
	clockSkew = time.Minute
	// issuerTimeout bounds one request to the issuer.
	issuerTimeout = 10 * time.Second
	// refreshEvery is how often the issuer is asked anew where its keys are, which also makes us forget keys that it has
	// withdrawn: new ones are fetched when a token names one.
	refreshEvery = time.Hour
)

// signing lists the signatures we take. A symmetric one would be made with a secret that we do not have, and "none" is
// none at all.
func signing() []string { return []string{oidc.RS256, oidc.ES256, oidc.PS256, oidc.EdDSA} }

// OIDCConfig says whose tokens are good, and what they make of who bears them.
type OIDCConfig struct {
	Issuer        string // https URL, exactly as in the tokens
	ClientID      string // has to be in a token's audience
	UsernameClaim string // a string; the principal is oidc:<its value>
	GroupsClaim   string // a string or a list of strings
	Roles         map[api.Role][]string
	CAFile        string // PEM of whom the issuer's certificate is from; empty: the system's
	Log           *slog.Logger
	Now           func() time.Time // nil: time.Now
}

// OIDC knows people by the tokens of an OpenID Connect issuer. Safe for concurrent use.
type OIDC struct {
	cfg OIDCConfig

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the issuer has answered
	last     error                 // why it has not
}

// NewOIDC checks cfg and reads CAFile. Run speaks to the issuer.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	if cfg.Issuer == "" || cfg.ClientID == "" || cfg.UsernameClaim == "" || cfg.GroupsClaim == "" || cfg.Log == nil {
		return nil, errors.New("open identity provider: issuer, client id, claims and log are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	o := &OIDC{cfg: cfg, last: errors.New("it was not asked yet")}
	_, err := o.client()
	return o, err
}

// client speaks to the issuer; the CA file is read anew, so that it can be replaced while we run.
func (o *OIDC) client() (*http.Client, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.cfg.CAFile != "" {
		text, err := os.ReadFile(o.cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA of the identity provider: %w", err)
		}
		if trust.RootCAs = x509.NewCertPool(); !trust.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read CA of the identity provider %s: wanted PEM with a certificate", o.cfg.CAFile)
		}
	}
	secure := func(r *http.Request, via []*http.Request) error {
		if r.URL.Scheme != "https" || len(via) > 3 {
			return fmt.Errorf("redirected to %s: wanted https, and at most three times", r.URL.Redacted())
		}
		return nil
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	return &http.Client{Timeout: issuerTimeout, CheckRedirect: secure, Transport: &bounded{transport}}, nil
}

// Run finds out where the issuer's keys are, now and every hour, until ctx ends. While the issuer cannot be reached, it
// asks again; who has a token of ours, or a certificate, gets in meanwhile.
func (o *OIDC) Run(ctx context.Context) error {
	backoff := agent.Backoff{Max: time.Minute}
	failed := false
	for {
		wait := agent.Jitter(refreshEvery, 0.1)
		if err := o.discover(ctx); err != nil && ctx.Err() == nil {
			wait, failed = backoff.Next(), true
			o.cfg.Log.Warn("identity provider does not answer as it should; asking again", agent.KeyURL, o.cfg.Issuer, agent.KeyWait, wait,
				agent.KeyErr, err)
		} else if err == nil {
			backoff.Reset()
			if failed {
				o.cfg.Log.Info("identity provider answers", agent.KeyURL, o.cfg.Issuer)
			}
			failed = false
		}
		if !agent.Wait(ctx, wait) {
			return nil
		}
	}
}

// discover reads the issuer's description. What was known before stays in force when it fails.
func (o *OIDC) discover(ctx context.Context) error {
	err := o.tryDiscover(ctx)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.last = err
	}
	return err
}

func (o *OIDC) tryDiscover(ctx context.Context) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), o.cfg.Issuer)
	if err != nil {
		return fmt.Errorf("discover: %w", err)
	}
	var doc struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&doc); err != nil {
		return fmt.Errorf("discover: %w", err)
	}
	if u, err := url.Parse(doc.Keys); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("discover: jwks_uri %q: wanted https://host/path", doc.Keys)
	}
	fetcher := *client
	fetcher.Transport = &throttled{now: o.cfg.Now, next: client.Transport}
	// The context carries the client to later fetches and nothing else: the library ignores its end.
	keys := &keySet{oidc.NewRemoteKeySet(oidc.ClientContext(ctx, &fetcher), doc.Keys)}
	verifier := oidc.NewVerifier(o.cfg.Issuer, keys, &oidc.Config{ClientID: o.cfg.ClientID, SupportedSigningAlgs: signing(),
		Now: func() time.Time { return o.cfg.Now().Add(-clockSkew) }})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.verifier = verifier
	return nil
}

// Authenticate finds out who bears a token of the issuer, given without "Bearer". An error is an *api.Problem.
func (o *OIDC) Authenticate(ctx context.Context, bearer string) (Principal, error) {
	if len(bearer) > maxIDToken {
		return Principal{}, problem(http.StatusUnauthorized, CodeInvalid, "have the identity provider put fewer claims into it",
			"token has %d bytes; wanted at most %d", len(bearer), maxIDToken)
	}
	o.mu.Lock()
	verifier, last := o.verifier, o.last
	o.mu.Unlock()
	if verifier == nil {
		return Principal{}, o.unavailable(last)
	}
	ctx, fetch := watchFetch(ctx)
	token, err := verifier.Verify(ctx, bearer)
	if fetch.err != nil {
		return Principal{}, o.unavailable(fetch.err)
	}
	if expired, ok := errors.AsType[*oidc.TokenExpiredError](err); ok {
		return Principal{}, problem(http.StatusUnauthorized, CodeExpired, "get a new one from the identity provider",
			"token expired at %s", expired.Expiry.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return Principal{}, problem(http.StatusUnauthorized, CodeInvalid, "get a token of "+o.cfg.Issuer+" for the audience "+o.cfg.ClientID,
			"token is not accepted: %v", err)
	}
	return o.principal(token)
}

func (o *OIDC) unavailable(err error) *api.Problem {
	return problem(http.StatusServiceUnavailable, CodeIssuer,
		"ask again in a moment; until then use an access token or an operator's certificate",
		"identity provider %s cannot be asked: %v", o.cfg.Issuer, err)
}
