package exchange

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// answering serves one connection with raw bytes after it has read a request, and then ends it.
func answering(t *testing.T, raw string) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(conn, raw) // who has read enough hangs up
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return &url.URL{Scheme: "http", Host: l.Addr().String(), Path: "/metrics"}
}

func TestAnswersAreReadAsTheyAreFramed(t *testing.T) {
	for raw, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more":                                         "200 OK: hello",
		"HTTP/1.0 200 OK\r\n\r\nto the end":                                                                   "200 OK: to the end",
		"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n":                                                           "404: ",
		"HTTP/1.1 204 No Content\r\n\r\nnothing":                                                              "204 No Content: ",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi":           "200 OK: hi",
		"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nEnd: 1\r\n\r\n": "200 OK: abcde",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort":                                                   "unexpected EOF",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc":                                       "unexpected EOF",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab":                                 "wanted one number",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab":                                                     "wanted one number",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab":                        "wanted chunked alone",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab":                                                "wanted chunked alone",
		"HTTP/2 200\r\n\r\n":                  "wanted a status line",
		"HTTP/1.1 2000 OK\r\n\r\n":            "wanted a status line",
		"SSH-2.0-OpenSSH\r\n":                 "wanted a status line",
		"":                                    "EOF",
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n": "malformed",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHeadBytes) + "\r\n\r\n": "longer than 16384 bytes",
		strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000):                     "longer than 16384 bytes",
	} {
		got := ""
		resp, err := (&Request{URL: answering(t, raw)}).Do(t.Context())
		if err == nil {
			var text []byte
			text, err = io.ReadAll(resp.Body)
			got = resp.Status + ": " + string(text)
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != want || err != nil && !strings.Contains(got, want) {
			t.Errorf("%.60q: %s; wanted %s", raw, got, want)
		}
	}
}

func TestARequestIsWhatNetHTTPUnderstands(t *testing.T) {
	seen := make(chan string, 2)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		seen <- strings.Join([]string{r.Method, r.Host, r.RequestURI, r.Header.Get("Accept"), r.Header.Get("Content-Type"), user, password,
			string(body)}, " ")
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Location", "/else")
		w.WriteHeader(http.StatusFound)
	}))
	defer server.Close()
	u, err := url.Parse(server.URL + "/a%20b?q=1")
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("me", "s:t")
	trust := server.Client().Transport.(*http.Transport).TLSClientConfig
	for _, body := range [][]byte{nil, []byte("{}")} {
		resp, err := (&Request{URL: u, Accept: "text/plain", Body: body, TLS: trust}).Do(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if resp.Code != 302 || resp.Header.Get("location") != "/else" {
			t.Errorf("%+v; wanted the redirect itself", resp)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		want := "GET " + u.Host + " /a%20b?q=1 text/plain  me s:t "
		if body != nil {
			want = "POST " + u.Host + " /a%20b?q=1 text/plain application/json me s:t {}"
		}
		if got := <-seen; got != want {
			t.Errorf("%q; wanted %q", got, want)
		}
	}
	bare := (&url.URL{Scheme: "https", Host: u.Host}).JoinPath("/v1/x")
	resp, err := (&Request{URL: bare, TLS: trust}).Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if got := <-seen; got != "GET "+u.Host+" /v1/x     " {
		t.Errorf("%q; wanted the whole path", got)
	}
	if _, err := (&Request{URL: u}).Do(t.Context()); err == nil || !strings.Contains(err.Error(), "TLS: ") {
		t.Errorf("%v; wanted a refusal of an unknown authority", err)
	}
}

func TestTheEndOfTheContextEndsAnExchange(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, answer := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"} {
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, answer)
			_, _ = io.Copy(io.Discard, conn) // until the other side hangs up
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		resp, err := (&Request{URL: &url.URL{Scheme: "http", Host: l.Addr().String()}}).Do(ctx)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close() // ended already
		}
		if cancel(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %q: %v; wanted the deadline", answer, err)
		}
	}
}

func TestWhatCannotBeAskedIsRefused(t *testing.T) {
	for _, raw := range []string{"ftp://host/", "https:///x", "//host"} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (&Request{URL: u}).Do(t.Context()); err == nil || !strings.Contains(err.Error(), "wanted http or https with a host") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// FuzzAnswer reads arbitrary bytes as an answer: no panic, and never more body than came.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 Not Found\r\n\r\nx"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
				_, _ = far.Write(raw) // the other side may have had enough
			}
		}()
		dial := func(context.Context, string, string) (net.Conn, error) { return near, nil }
		resp, err := (&Request{URL: &url.URL{Scheme: "http", Host: "h"}, Dial: dial}).Do(t.Context())
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if resp.Code < 200 || resp.Code > 999 || len(resp.Status) < 3 {
			t.Errorf("%+v", resp)
		}
		if body, _ := io.ReadAll(resp.Body); len(body) > len(raw) { // how it ends is the answer's affair
			t.Errorf("%d bytes of body from %d", len(body), len(raw))
		}
	})
}
