package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// maxAnswerBytes bounds an answer that is read whole.
const maxAnswerBytes = 256 << 20

// Client speaks to the REST interface of one cluster agent. Safe for concurrent use.
type Client struct {
	base     *url.URL
	context  Context
	http     *http.Client
	patience time.Duration // how long an answer may take to begin
}

// When a connection has been quiet for pingAfter it is asked whether it lives, and given up when no answer has come for pingWait.
var pingAfter, pingWait = 15 * time.Second, 15 * time.Second

// NewClient returns a client for x. It trusts nobody but the CA of x.
func NewClient(x Context) (*Client, error) {
	base, err := url.Parse(x.Server)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fail(ExitUsage, "context %s: server %q: wanted https://host:port", x.Name, x.Server)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(x.CA)) {
		return nil, fail(ExitUsage, "context %s: ca holds no certificate; import the context again", x.Name)
	}
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DialContext:       (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool},
		ForceAttemptHTTP2: true,
		// An answer may take as long as it takes: a quiet log that is followed, a large release that is checked. What is to be noticed
		// is a connection on which nothing comes any more.
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWait},
	}
	return &Client{base: base, context: x, http: &http.Client{Transport: transport}, patience: defaultRequestTimeout}, nil
}

// Get, Post, Patch and Delete call path (with its query) and decode the answer into out, which may be nil.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// Post sends body as JSON.
func (c *Client) Post(ctx context.Context, path string, body, out any) error {
	return c.call(ctx, http.MethodPost, path, body, out)
}

// Put sends body as JSON and decodes the answer into out.
func (c *Client) Put(ctx context.Context, path string, body, out any) error {
	return c.call(ctx, http.MethodPut, path, body, out)
}

// Patch sends body as JSON.
func (c *Client) Patch(ctx context.Context, path string, body, out any) error {
	return c.call(ctx, http.MethodPatch, path, body, out)
}

// Delete deletes.
func (c *Client) Delete(ctx context.Context, path string) error {
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}

func (c *Client) call(ctx context.Context, method, path string, body, out any) error {
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		reader = bytes.NewReader(raw)
	}
	resp, err := c.Do(ctx, method, path, reader)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		if slow, ok := errors.AsType[errSlow](context.Cause(ctx)); ok {
			err = slow
		}
		return c.explain(fmt.Errorf("read answer of %s: %w", path, err))
	}
	if out == nil || len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

// Do makes one request and returns an answer below 400; the caller closes its body. Refusals are *api.Problem.
func (c *Client) Do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	ref, err := url.Parse(path)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.ResolveReference(ref).String(), body)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", path, err)
	}
	token, err := c.context.bearer()
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if slow, ok := errors.AsType[errSlow](context.Cause(ctx)); ok {
			err = slow
		}
		return nil, c.explain(err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

// refusal reads an answer of 400 and above. What stands in the way, such as a proxy, may have given it: whatever the
// body is, the status counts, and a person gets something to read.
func refusal(resp *http.Response) *api.Problem {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var body struct {
		api.Problem
		Error string `json:"error"` // the query API has a form of its own
	}
	if err != nil || json.Unmarshal(raw, &body) != nil {
		body.Problem = api.Problem{}
		if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/plain" {
			body.Detail = clip(strings.TrimSpace(string(raw)), 500)
		}
	}
	p := body.Problem
	p.Status = resp.StatusCode
	if p.Title == "" {
		p.Title = resp.Status
	}
	if body.Error != "" {
		p.Detail = body.Error
	}
	if p.Detail == "" && p.Code == "" {
		p.Detail = resp.Status
		p.Cure = "this is not an answer of skerry-cluster; is there a proxy in between, or another program at " + resp.Request.URL.Host + "?"
	}
	if after := resp.Header.Get("Retry-After"); after != "" && p.Cure == "" {
		p.Cure = "ask again in " + after + " s"
	}
	return &p
}

// explain says what to do about a request that had no answer.
func (c *Client) explain(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if slow, ok := errors.AsType[errSlow](err); ok {
		return fail(ExitUnreachable, "%s: %w; is it overloaded or stopped? --request-timeout waits longer", c.base.Host, slow)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fail(ExitUnreachable, "%s is not the cluster agent of this context (another CA); import the context again", c.base.Host)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fail(ExitUnreachable, "%w; on the cluster add this name: advertise: [%s]", err, c.base.Hostname())
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		err = &dialError{err}
	}
	return fail(ExitUnreachable, "reach cluster agent: %w; is skerry-cluster running at %s?", err, c.base.Host)
}
