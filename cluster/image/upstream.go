package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Upstream is what is special about a registry.
type Upstream struct {
	Registry string   // as images name it: docker.io
	Mirrors  []string // URLs that are asked before it, with the repository behind their path
	Insecure bool     // HTTP without TLS
	CAFile   string   // PEM, in addition to the system's
}

// maxSessions bounds how many repositories' authentication is kept.
const maxSessions = 256

// dockerHost is where docker.io is.
const dockerHost = "index.docker.io"

// registries asks them.
type registries struct {
	cfg       Config
	upstreams map[string]*origin // by registry
	common    *http.Transport

	mu       sync.Mutex
	sessions map[string]http.RoundTripper // by host and repository: authenticated
}

// origin is a registry with what its places share.
type origin struct {
	places []place // the registry itself comes last
	base   *http.Transport
}

// place is one host that has a registry's images.
type place struct {
	host     string
	prefix   string // before the repository
	insecure bool
}

func newRemote(cfg Config) (*registries, error) {
	r := &registries{cfg: cfg, upstreams: map[string]*origin{}, common: newTransport(nil), sessions: map[string]http.RoundTripper{}}
	for _, u := range cfg.Upstreams {
		up := &origin{base: r.common}
		if u.CAFile != "" {
			pool, err := poolOf(u.CAFile)
			if err != nil {
				return nil, fmt.Errorf("registry %s: %w", u.Registry, err)
			}
			up.base = newTransport(pool)
		}
		for _, m := range u.Mirrors {
			at, err := url.Parse(m)
			if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" {
				return nil, fmt.Errorf("registry %s: mirror %q: wanted https://host or http://host", u.Registry, m)
			}
			up.places = append(up.places, place{at.Host, strings.Trim(at.Path, "/"), at.Scheme == "http"})
		}
		up.places = append(up.places, place{hostOf(u.Registry), "", u.Insecure})
		r.upstreams[u.Registry] = up
	}
	return r, nil
}

func hostOf(registry string) string {
	if registry == "docker.io" {
		return dockerHost
	}
	return registry
}

func newTransport(pool *x509.CertPool) *http.Transport {
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 15 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second, DisableCompression: true}
}

func poolOf(file string) (*x509.CertPool, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("read CA %s: no certificate in it", file)
	}
	return pool, nil
}

// plainOnly refuses HTTP without TLS but to one host, wherever a registry, a redirect or a token server leads.
type plainOnly struct {
	next http.RoundTripper
	host string // empty: to none
}

func (p plainOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && r.URL.Host != p.host {
		return nil, fmt.Errorf("%s is not TLS; list its registry with insecure: true if that is meant", r.URL.Redacted())
	}
	return p.next.RoundTrip(r)
}

// client is one authenticated for reading a repository at a place.
func (r *registries) client(ctx context.Context, up *origin, at place, repository string) (*http.Client, error) {
	key := at.host + "|" + repository
	r.mu.Lock()
	session := r.sessions[key]
	r.mu.Unlock()
	if session == nil {
		options := []name.Option{name.StrictValidation}
		base := plainOnly{up.base, ""}
		if at.insecure {
			options = append(options, name.Insecure)
			base.host = at.host
		}
		reg, err := name.NewRegistry(at.host, options...)
		if err != nil {
			return nil, err
		}
		auth, err := credentials(r.cfg.CredentialsFile, at.host)
		if err != nil {
			return nil, err
		}
		if session, err = transport.NewWithContext(ctx, reg, auth, base, []string{"repository:" + repository + ":pull"}); err != nil {
			return nil, err
		}
		r.mu.Lock()
		if len(r.sessions) >= maxSessions {
			clear(r.sessions)
		}
		r.sessions[key] = session
		r.mu.Unlock()
	}
	return &http.Client{Transport: session}, nil
}

// get asks the places of a registry in turn; what is the part of the path behind the repository. The answer has code 200 or 206.
func (r *registries) get(ctx context.Context, method, repository, what string, header http.Header) (*http.Response, error) {
	registry, rest, _ := strings.Cut(repository, "/")
	up := r.upstreams[registry]
	if up == nil {
		if r.cfg.OnlyListed {
			return nil, &Refusal{http.StatusForbidden, "DENIED", "registry " + registry + " is not listed in images.registries of the cluster agent"}
		}
		up = &origin{base: r.common, places: []place{{hostOf(registry), "", false}}}
	}
	var failed []error
	for _, at := range up.places {
		resp, err := r.ask(ctx, up, at, &request{method: method, repository: path.Join(at.prefix, rest), what: what, header: header})
		if err == nil {
			return resp, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", at.host, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, verdict(failed)
}

// verdict is what the answers of all places amount to: nobody has it only when everybody says so.
func verdict(failed []error) error {
	all := errors.Join(failed...)
	if !slices.ContainsFunc(failed, func(err error) bool { return statusOf(err) != http.StatusNotFound }) {
		return &Refusal{http.StatusNotFound, "MANIFEST_UNKNOWN", all.Error()}
	}
	for _, err := range failed {
		if s := statusOf(err); s == http.StatusUnauthorized || s == http.StatusForbidden {
			return &Refusal{http.StatusForbidden, "DENIED", all.Error() + "; is the image there, and do images.credentials_file of the cluster agent give access?"}
		}
	}
	return all
}

// statusOf is the status of a registry's refusal; 0 when it did not answer.
func statusOf(err error) int {
	if t, ok := errors.AsType[*transport.Error](err); ok {
		return t.StatusCode
	}
	return 0
}

func (r *registries) ask(ctx context.Context, up *origin, at place, q *request) (*http.Response, error) {
	client, err := r.client(ctx, up, at, q.repository)
	if err != nil {
		return nil, err
	}
	scheme := "https"
	if at.insecure {
		scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, q.method, scheme+"://"+at.host+"/v2/"+q.repository+"/"+q.what, nil)
	if err != nil {
		return nil, err
	}
	req.Header = q.header.Clone()
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		_ = resp.Body.Close() // what it said tells more
		if s := statusOf(err); s == http.StatusUnauthorized || s == http.StatusForbidden {
			r.mu.Lock()
			delete(r.sessions, at.host+"|"+q.repository) // the next one reads the credentials anew
			r.mu.Unlock()
		}
		return nil, err
	}
	return resp, nil
}

// request is one to a registry.
type request struct {
	method, repository, what string
	header                   http.Header
}

// maxCredentials bounds the file.
const maxCredentials = 1 << 20

// credentials finds those of a host in a file as docker login writes it. It is read each time, so that it can be replaced.
func credentials(file, host string) (authn.Authenticator, error) {
	if file == "" {
		return authn.Anonymous, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read images.credentials_file: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxCredentials))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read images.credentials_file: %w", err)
	}
	var doc struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
			RegistryToken string `json:"registrytoken"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("read images.credentials_file %s: not JSON as docker login writes it", file) // no cause: it may quote a secret
	}
	for key, a := range doc.Auths {
		if bareHost(key) != host && hostOf(bareHost(key)) != host {
			continue
		}
		cfg := authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
		if a.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(a.Auth)
			user, password, ok := strings.Cut(string(plain), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("read images.credentials_file %s: auth of %s: wanted base64 of user:password", file, key)
			}
			cfg.Username, cfg.Password = user, strings.TrimRight(password, "\x00")
		}
		return authn.FromConfig(cfg), nil
	}
	return authn.Anonymous, nil
}

// bareHost is the host of a key of the file, which may be a URL such as https://index.docker.io/v1/.
func bareHost(key string) string {
	_, rest, ok := strings.Cut(key, "://")
	if !ok {
		rest = key
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}
