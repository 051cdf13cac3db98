package image

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/edge/exchange"
	"github.com/skerry-edge/skerry/edge/workload"
)

// Site is where images come from: the cluster agent, whose cache answers for all registries.
type Site struct {
	// Endpoints are the URLs of the cluster agent, asked in turn until one answers.
	Endpoints func() []string
	// TLS is the client configuration for a host, with the node's certificate.
	TLS func(host string) *tls.Config
	// Dial connects in place of the network of this machine; nil: that.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Patience bounds a silence: before an answer three times as long, as the cluster agent may have to ask a registry, in the
	// middle of one once; 0: a minute.
	Patience time.Duration
}

const (
	defaultPatience = time.Minute
	maxErrorBytes   = 8 << 10
)

// answer is one whose body stalls no longer than the site's patience.
type answer struct {
	*exchange.Response
	watch    *time.Timer
	patience time.Duration
	cancel   context.CancelCauseFunc
}

func (a *answer) Read(p []byte) (int, error) {
	a.watch.Reset(a.patience)
	return a.Body.Read(p)
}

func (a *answer) Close() error {
	a.watch.Stop()
	a.cancel(nil)
	return a.Body.Close()
}

// stallError is a silence that was too long.
type stallError struct{ after time.Duration }

func (e stallError) Error() string { return fmt.Sprintf("no byte came for %s", e.after) }

// get asks for path. The answer has code 200 or 206, and is to be closed.
func (s *Site) get(ctx context.Context, path, accept string, header ...string) (*answer, error) {
	var failed []error
	for _, endpoint := range s.Endpoints() {
		a, err := s.ask(ctx, endpoint, path, accept, header)
		if err == nil {
			return a, nil
		}
		if ctx.Err() != nil || errors.As(err, new(*refusalError)) { // another endpoint is the same cluster agent
			return nil, err
		}
		failed = append(failed, fmt.Errorf("ask %s: %w", endpoint, err))
	}
	if len(failed) == 0 {
		return nil, errors.New("no address of the cluster agent is known")
	}
	return nil, errors.Join(failed...)
}

func (s *Site) ask(ctx context.Context, endpoint, path, accept string, header []string) (*answer, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(path, "?")
	u = u.JoinPath(path)
	u.RawQuery = query
	patience := s.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watch := time.AfterFunc(3*patience, func() { cancel(stallError{patience}) })
	resp, err := (&exchange.Request{URL: u, Accept: accept, Header: header, TLS: s.TLS(u.Hostname()), Dial: s.Dial}).Do(ctx)
	if err != nil {
		watch.Stop()
		cancel(nil)
		return nil, err
	}
	a := &answer{resp, watch, patience, cancel}
	if resp.Code == 200 || resp.Code == 206 {
		return a, nil
	}
	err = readRefusal(a)
	_ = a.Close() // what it said tells more
	return nil, err
}

// refusalError is an answer that is no image.
type refusalError struct {
	code int
	text string
}

func (e *refusalError) Error() string { return "cluster agent: " + e.text }

// Unwrap tells what nobody has from what may come.
func (e *refusalError) Unwrap() error {
	if e.code == 404 {
		return workload.ErrNoImage
	}
	return nil
}

// readRefusal reads an answer as the distribution API has it, or a problem of the cluster agent.
func readRefusal(a *answer) error {
	raw, err := io.ReadAll(io.LimitReader(a, maxErrorBytes))
	if err != nil {
		return err
	}
	var body struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
	}
	e := &refusalError{code: a.Code, text: a.Status}
	if json.Unmarshal(raw, &body) != nil || len(body.Errors) == 0 && body.Code == "" {
		if a.Code == 404 {
			return fmt.Errorf("cluster agent: %s, and not as one that keeps images says it: is it older, or images.enabled false?", a.Status)
		}
		return e
	}
	switch {
	case len(body.Errors) > 0 && body.Errors[0].Message != "":
		e.text = body.Errors[0].Message
	case body.Code != "":
		e.text = body.Detail
		if a.Code == 404 { // of the interface as a whole, not of an image
			return fmt.Errorf("cluster agent: %s", body.Detail)
		}
	}
	return e
}
