package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Refusal is an answer of the API server other than yes.
type Refusal struct {
	Code   int
	Detail string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d: %s", r.Code, r.Detail) }

// Refused reports whether err is the API server's answer with that code.
func Refused(err error, code int) bool {
	r, ok := errors.AsType[*Refusal](err)
	return ok && r.Code == code
}

// Do asks the API server itself, as the administrator. body, unless nil, is sent as JSON: a PATCH as a merge patch; out, unless nil,
// takes the answer. Safe for concurrent use.
func (p *ControlPlane) Do(ctx context.Context, method, path string, body, out any) error {
	resp, err := p.send(ctx, method, path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", strings.ToLower(method), path, err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && out != nil {
		err = json.Unmarshal(raw, out)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", strings.ToLower(method), path, err)
	}
	return nil
}

func (p *ControlPlane) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.direct()+path, in)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	return nil, errors.Join(&Refusal{resp.StatusCode, strings.TrimSpace(string(raw))}, err, resp.Body.Close())
}

// Watch calls seen with each change of the objects under path, from now or from a version on, until ctx ends or the API server does.
// A list of what is there is the caller's to ask for.
func (p *ControlPlane) Watch(ctx context.Context, path, version string, seen func(kind string, object json.RawMessage)) error {
	resp, err := p.send(ctx, http.MethodGet, path+"?watch=true&resourceVersion="+version, nil)
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer resp.Body.Close()
	events := json.NewDecoder(resp.Body)
	for {
		var event struct {
			Type   string
			Object json.RawMessage
		}
		if err := events.Decode(&event); err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		seen(event.Type, event.Object)
	}
}

// Client is an administrator's that connects with dial, wherever a request is addressed to.
func (p *ControlPlane) Client(dial func(ctx context.Context) (net.Conn, error)) (*http.Client, error) {
	t, err := p.papers.transport(p.papers.admin)
	if err != nil {
		return nil, err
	}
	t.ForceAttemptHTTP2 = false // one request after the other on a connection, which is then known
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	return &http.Client{Transport: t}, nil
}

// Dial connects to the API server itself.
func (p *ControlPlane) Dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", p.port.at(p.options.Address))
}
