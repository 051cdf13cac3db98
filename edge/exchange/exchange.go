// Package exchange asks one HTTP/1.1 question over a connection that ends with the answer (RFC 9112).
//
// A node agent has three such questions: for its enrolment service, a few times a year, for the Prometheus endpoints
// that its configuration names, and for images. The client of net/http is made for more (connections that stay, proxies, HTTP/2, redirects,
// compression, names in other scripts), is a third of a MiB of the program and starts two goroutines for each connection
// (docs/adr/0007). Heads are read by net/textproto and chunks by net/http/httputil.
package exchange

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxHeadBytes = 16 << 10
	dialTimeout  = 10 * time.Second
)

// Request is one question.
type Request struct {
	URL    *url.URL // http or https, with a host; user and password become basic authentication
	Accept string   // media type; empty: none is asked for
	Header []string // more fields, each "Name: value" in one line; Host and User-Agent replace those that are sent otherwise
	Body   []byte   // JSON, sent with POST; nil asks with GET
	TLS    *tls.Config
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the network of this machine, for at most 10 s
}

// Response is an answer whose head was read. Body is not bounded, must be closed, and says so when it ends before it is
// complete.
type Response struct {
	Code   int    // 200 to 999
	Status string // code and reason, as in "404 Not Found"
	Header textproto.MIMEHeader
	Body   io.ReadCloser
}

// Do asks, and returns the answer whatever its code: a redirect is an answer too. The end of ctx ends the connection, also
// while Body is read.
func (r *Request) Do(ctx context.Context) (*Response, error) {
	for _, field := range r.Header {
		if name, _, ok := strings.Cut(field, ":"); !ok || name == "" || strings.ContainsAny(field, "\r\n\x00") {
			return nil, fmt.Errorf("header %.80q: wanted \"Name: value\" in one line", field)
		}
	}
	conn, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	end := func() error {
		stop()
		return conn.Close()
	}
	resp, in, err := r.ask(conn)
	if err != nil {
		_ = end() // the first error tells more
		return nil, because(ctx, err)
	}
	resp.Body = &body{in, ctx, end}
	return resp, nil
}

// dial checks the address and connects to it, with TLS for https.
func (r *Request) dial(ctx context.Context) (net.Conn, error) {
	port, secure := r.URL.Port(), r.URL.Scheme == "https"
	switch {
	case !secure && r.URL.Scheme != "http" || r.URL.Hostname() == "":
		return nil, fmt.Errorf("url %q: wanted http or https with a host", r.URL.Redacted())
	case port == "" && secure:
		port = "443"
	case port == "":
		port = "80"
	}
	dial := r.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(r.URL.Hostname(), port))
	if err != nil || !secure {
		return conn, err
	}
	cfg := r.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if cfg.ServerName == "" {
		cfg.ServerName = r.URL.Hostname()
	}
	tconn := tls.Client(conn, cfg)
	if err := tconn.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the first error tells more
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return tconn, nil
}

// ask sends the request and reads the head of its answer, which in goes on from.
func (r *Request) ask(conn net.Conn) (resp *Response, in io.Reader, err error) {
	if _, err := conn.Write(r.packet()); err != nil {
		return nil, nil, fmt.Errorf("send request: %w", err)
	}
	head := &io.LimitedReader{R: conn, N: maxHeadBytes}
	text := textproto.NewReader(bufio.NewReader(head))
	for resp == nil || resp.Code < 200 { // 1xx comes before the answer (RFC 9110 §15.2); their sum is bounded as one head
		if resp, err = readHead(text); err != nil {
			if head.N == 0 {
				err = fmt.Errorf("longer than %d bytes", maxHeadBytes)
			}
			return nil, nil, fmt.Errorf("read head of answer: %w", err)
		}
	}
	head.N = math.MaxInt64 // what follows is for the reader of Body to bound
	if in, err = bodyOf(resp, text.R); err != nil {
		return nil, nil, fmt.Errorf("read head of answer: %w", err)
	}
	return resp, in, nil
}

// packet is the request as sent, with one write.
func (r *Request) packet() []byte {
	method := "GET"
	if r.Body != nil {
		method = "POST"
	}
	target := r.URL.RequestURI()
	if !strings.HasPrefix(target, "/") { // url.JoinPath leaves it out after an empty path
		target = "/" + target
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nConnection: close\r\n", method, target)
	for _, field := range []string{"Host: " + r.URL.Host, "User-Agent: skerry-edge"} {
		name, _, _ := strings.Cut(field, ":")
		if !slices.ContainsFunc(r.Header, func(own string) bool { return strings.EqualFold(name, strings.TrimSpace(cutName(own))) }) {
			b.WriteString(field + "\r\n")
		}
	}
	for _, field := range r.Header {
		b.WriteString(field + "\r\n")
	}
	if r.Accept != "" {
		fmt.Fprintf(&b, "Accept: %s\r\n", r.Accept)
	}
	if u := r.URL.User; u != nil {
		password, _ := u.Password()
		fmt.Fprintf(&b, "Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if r.Body != nil {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(r.Body))
	}
	b.WriteString("\r\n")
	b.Write(r.Body)
	return b.Bytes()
}

func cutName(field string) string {
	name, _, _ := strings.Cut(field, ":")
	return name
}

// readHead reads a status line and fields.
func readHead(in *textproto.Reader) (*Response, error) {
	line, err := in.ReadLine()
	if err != nil {
		return nil, err
	}
	version, status, _ := strings.Cut(line, " ")
	word, _, _ := strings.Cut(status, " ")
	code, err := strconv.Atoi(word)
	if err != nil || len(word) != 3 || code < 100 || !strings.HasPrefix(version, "HTTP/1.") {
		return nil, fmt.Errorf("%.60q; wanted a status line of HTTP/1.1", line)
	}
	header, err := in.ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	return &Response{Code: code, Status: status, Header: header}, nil
}

// bodyOf finds how long the body is (RFC 9112 §6.3): by chunks, by its length, or until the connection ends.
func bodyOf(resp *Response, in *bufio.Reader) (io.Reader, error) {
	length := resp.Header.Values("Content-Length")
	coding := resp.Header.Values("Transfer-Encoding")
	switch {
	case resp.Code == 204 || resp.Code == 304:
		return bytes.NewReader(nil), nil
	case len(coding) > 1 || len(coding) == 1 && (len(length) > 0 || !strings.EqualFold(coding[0], "chunked")):
		return nil, fmt.Errorf("transfer encoding %q beside length %q; wanted chunked alone", coding, length)
	case len(coding) == 1:
		return httputil.NewChunkedReader(in), nil
	case len(length) == 0:
		return in, nil
	}
	n, err := strconv.ParseUint(length[0], 10, 63)
	if err != nil || len(length) > 1 {
		return nil, fmt.Errorf("content length %q; wanted one number of bytes", length)
	}
	return &exactly{in, int64(n)}, nil
}

// exactly reads as many bytes as were promised; fewer are an error.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	if e.left -= int64(n); e.left > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// body ends its connection when closed.
type body struct {
	io.Reader
	ctx context.Context
	end func() error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = because(b.ctx, err)
	}
	return n, err
}

func (b *body) Close() error { return b.end() }

// because names the end of ctx in place of what it did to the connection.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
