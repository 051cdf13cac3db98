package identity

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"strconv"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/exchange"
)

// maxReplyBytes bounds an enrolment reply.
const maxReplyBytes = 256 << 10

// callTimeout bounds one call, from dialling to the last byte.
const callTimeout = 30 * time.Second

// BusyError says that the enrolment service cannot answer now: too many requests, or trouble of its own. Wait is what it
// asks to wait, 0 when it does not say.
type BusyError struct {
	Problem *api.Problem
	Wait    time.Duration
}

// Error tells what the service said.
func (e *BusyError) Error() string { return "enrolment service: " + e.Problem.Error() }

// maxBusyWait bounds what a service can make a device wait.
const maxBusyWait = 10 * time.Minute

// retryAfter reads the header as seconds (RFC 9110 §10.2.3); a date, or nothing, is 0.
func retryAfter(h textproto.MIMEHeader) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxBusyWait)
}

// Client talks to the enrolment service. Safe for concurrent use.
type Client struct {
	Clock *agent.Clock
	Host  api.Host
	// Dial connects in place of the network of this machine, for who has several addresses; nil: that.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Enroll asks for a certificate with a join string, at each endpoint in turn until one answers. A refusal is an
// *api.Problem and ends the round: every endpoint would say the same.
func (c *Client) Enroll(ctx context.Context, join *api.Join, req *api.EnrollRequest) (*api.EnrollReply, error) {
	req.TokenID, req.Secret, req.Host = join.ID, join.Secret, c.Host
	return c.ask(ctx, join.Endpoints, "/v1/enroll", req, func(host string) *tls.Config {
		return pinned(host, join.CASHA256, c.Clock)
	})
}

// Renew asks for a new certificate with the present one, which may have expired.
func (c *Client) Renew(ctx context.Context, id *Identity) (*api.EnrollReply, error) {
	csr, err := id.CSR()
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, id.Endpoints, "/v1/renew", &api.RenewRequest{CSR: csr}, c.as(id))
}

// Leave has the cluster remove the node, which its certificate names, as if an administrator had. An expired one is refused. A node
// that is removed already has left: the answer to an earlier request may have been lost.
func (c *Client) Leave(ctx context.Context, id *Identity) error {
	_, err := c.ask(ctx, id.Endpoints, "/v1/leave", struct{}{}, c.as(id))
	if refusal, ok := errors.AsType[*api.Problem](err); ok && refusal.Code == api.CodeNodeRemoved {
		return nil
	}
	return err
}

// as shows the certificate of id, whatever the server says it accepts: an expired one is just what renewal is for.
func (c *Client) as(id *Identity) func(host string) *tls.Config {
	return func(host string) *tls.Config {
		cfg := trusted(host, id.pool, c.Clock)
		cert := id.TLSCertificate()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return cfg
	}
}

func (c *Client) ask(ctx context.Context, endpoints []string, path string, body any, trust func(host string) *tls.Config) (
	*api.EnrollReply, error,
) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	var failed []error
	for _, endpoint := range endpoints {
		reply, err := c.post(ctx, endpoint, path, raw, trust)
		if err == nil {
			c.Clock.Hint(reply.Time.Time())
			return reply, nil
		}
		var refusal *api.Problem
		if errors.As(err, &refusal) {
			return nil, err
		}
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		return nil, errors.New("no enrolment endpoint is known; join again")
	}
	return nil, errors.Join(failed...)
}

func (c *Client) post(ctx context.Context, endpoint, path string, body []byte, trust func(host string) *tls.Config) (
	*api.EnrollReply, error,
) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := (&exchange.Request{URL: u.JoinPath(path), Body: body, TLS: trust(u.Hostname()), Dial: c.Dial}).Do(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", u.Host, err)
	}
	defer resp.Body.Close()
	return readReply(resp)
}

func readReply(resp *exchange.Response) (*api.EnrollReply, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes))
	if err != nil {
		return nil, fmt.Errorf("read enrolment reply: %w", err)
	}
	if resp.Code >= 400 {
		problem := &api.Problem{Status: resp.Code, Title: resp.Status}
		if json.Unmarshal(raw, problem) != nil || problem.Code == "" {
			return nil, fmt.Errorf("enrolment service answers %s, and not as skerry-cluster does", resp.Status)
		}
		if problem.Status >= 500 || problem.Status == 429 || problem.Status == 421 {
			return nil, &BusyError{problem, retryAfter(resp.Header)} // passing, or another replica acts for the node: try the next, try again
		}
		return nil, problem
	}
	var reply api.EnrollReply
	if err := json.Unmarshal(raw, &reply); err != nil {
		return nil, fmt.Errorf("enrolment reply: %w", err)
	}
	return &reply, nil
}
