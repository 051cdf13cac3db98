package rest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// begin makes a call and returns its answer as soon as it has begun.
func (th *theatre) begin(t *testing.T, ctx context.Context, q request) *http.Response {
	t.Helper()
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, th.http.URL+q.path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+string(q.role))
	resp, err := th.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatalf("never: %s", what)
	}
	panic("unreachable")
}

func TestALogFlowsAsItComesAndItsFaultIsInTheTrailer(t *testing.T) {
	step := make(chan struct{})
	var asked LogQuery
	th := open(t, &stage{logs: func(_ context.Context, q LogQuery, w io.Writer) error {
		asked = q
		if _, err := io.WriteString(w, "one\n"); err != nil {
			return err
		}
		<-step
		return errors.New("the node went away")
	}})
	resp := th.begin(t, t.Context(), request{"GET", "/v1/nodes/n1/logs?source=/var/log/x&lines=5&follow=true", "", "", api.RoleOperator})
	r := bufio.NewReader(resp.Body)
	if line, err := r.ReadString('\n'); line != "one\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	close(step)
	if rest, err := io.ReadAll(r); len(rest) != 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if got := resp.Trailer.Get(trailerError); !strings.Contains(got, "the node went away") {
		t.Errorf("trailer %q", got)
	}
	if asked != (LogQuery{"n1", "/var/log/x", 5, true}) {
		t.Errorf("asked for %+v", asked)
	}
	if e := th.entry(t); e.Action != "log.read" || e.Object != "n1:/var/log/x" || !strings.Contains(e.Result, "went away") {
		t.Errorf("audit %+v", e)
	}
}

func TestAStreamThatFailsBeforeItsFirstByteIsAProblem(t *testing.T) {
	th := open(t, &stage{})
	for _, path := range []string{"/v1/nodes/n1/logs", "/v1/nodes/n1/files?path=/x"} {
		p := th.refused(t, request{"GET", path, "", "", api.RoleOperator})
		if p.Status != http.StatusInternalServerError || !strings.Contains(p.Detail, "stage") {
			t.Errorf("%s: %+v", path, p)
		}
		th.entry(t)
	}
}

func TestWhoLeavesEndsTheWorkForThem(t *testing.T) {
	ended := make(chan error, 1)
	follow := func(ctx context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "begun\n")
		if err == nil {
			<-ctx.Done()
			err = ctx.Err()
		}
		ended <- err
		return err
	}
	s := &stage{logs: func(ctx context.Context, _ LogQuery, w io.Writer) error { return follow(ctx, w) },
		get: func(ctx context.Context, w io.Writer) (string, error) { return "", follow(ctx, w) },
		watch: func(ctx context.Context, _ WatchQuery, take func(api.Change) error) error {
			err := take(api.Change{Kind: "node", Type: "added", Node: &api.Node{ID: "n1"}})
			if err == nil {
				<-ctx.Done()
				err = ctx.Err()
			}
			ended <- err
			return err
		}}
	th := open(t, s)
	for _, path := range []string{"/v1/nodes/n1/logs?follow=true", "/v1/nodes/n1/files?path=/x", "/v1/watch"} {
		ctx, leave := context.WithCancel(t.Context())
		resp := th.begin(t, ctx, request{"GET", path, "", "", api.RoleOperator})
		if _, err := resp.Body.Read(make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		leave()
		if err := within(t, path+" ends", ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTheAgentsStopIsToldAndNeverTakenForSuccess(t *testing.T) {
	begun := make(chan struct{}, 1)
	hang := func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	s := &stage{logs: func(ctx context.Context, _ LogQuery, _ io.Writer) error { return hang(ctx) },
		get: func(ctx context.Context, _ io.Writer) (string, error) { return "", hang(ctx) },
		put: func(ctx context.Context, _ Upload, _ io.Reader) error { return hang(ctx) },
		watch: func(ctx context.Context, _ WatchQuery, _ func(api.Change) error) error {
			return errors.Join(hang(ctx))
		}}
	for _, q := range []request{{"GET", "/v1/nodes/n1/logs?follow=true", "", "", api.RoleOperator},
		{"GET", "/v1/nodes/n1/files?path=/x", "", "", api.RoleOperator},
		{"PUT", "/v1/nodes/n1/files?path=/x&size=3", "abc", "", api.RoleOperator}} {
		th := open(t, s)
		go func() { <-begun; th.close() }()
		if p := th.refused(t, q); p.Status != http.StatusServiceUnavailable || p.Code != codeStopping {
			t.Errorf("%s %s: %+v", q.method, q.path, p)
		}
	}
	th := open(t, s)
	go func() { <-begun; th.close() }()
	if _, text := th.do(t, request{"GET", "/v1/watch", "", "", api.RoleViewer}); !strings.Contains(text, "event: error\ndata: ") || !strings.Contains(text, "watch_ended") {
		t.Errorf("watch: %q", text)
	}
}

// raw is a caller on HTTP/1.1 who reads and writes only when told to.
func (th *theatre) raw(t *testing.T, head string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", th.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) // whose it is is not the point
	t.Cleanup(func() { _ = secure.Close() })
	if _, err := io.WriteString(secure, head+"\r\nHost: x\r\nAuthorization: Bearer operator\r\n"); err != nil {
		t.Fatal(err)
	}
	return secure
}

func TestWhoStandsStillIsGivenUp(t *testing.T) {
	ended := make(chan error, 1)
	pour := func(w io.Writer) error {
		block := bytes.Repeat([]byte("x"), 64<<10)
		for {
			if _, err := w.Write(block); err != nil {
				ended <- err
				return err
			}
		}
	}
	s := &stage{logs: func(_ context.Context, _ LogQuery, w io.Writer) error { return pour(w) },
		get: func(_ context.Context, w io.Writer) (string, error) { return "", pour(w) },
		put: func(_ context.Context, _ Upload, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			ended <- err
			return err
		},
		watch: func(_ context.Context, _ WatchQuery, take func(api.Change) error) error {
			for {
				if err := take(api.Change{Kind: "node", Type: "added", Node: &api.Node{ID: strings.Repeat("x", 4096)}}); err != nil {
					ended <- err
					return err
				}
			}
		}}
	th := open(t, s)
	th.server.stalled = 300 * time.Millisecond
	for _, head := range []string{"GET /v1/nodes/n1/logs HTTP/1.1", "GET /v1/nodes/n1/files?path=/x HTTP/1.1", "GET /v1/watch HTTP/1.1",
		"PUT /v1/nodes/n1/files?path=/x&size=1000 HTTP/1.1\r\nContent-Length: 1000"} {
		conn := th.raw(t, head)
		if _, err := io.WriteString(conn, "\r\n"); err != nil { // and nothing more, ever
			t.Fatal(err)
		}
		if err := within(t, head+" ends", ended); err == nil {
			t.Errorf("%s: ended without an error", head)
		}
	}
}

func TestAQuietStreamIsNoSlowReader(t *testing.T) {
	s := &stage{logs: func(ctx context.Context, _ LogQuery, w io.Writer) error {
		for _, line := range []string{"one\n", "two\n"} {
			if _, err := io.WriteString(w, line); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(2 * time.Second):
			}
		}
		return nil
	}}
	th := open(t, s)
	th.server.stalled = time.Second // which each line has to be written within
	if resp, text := th.do(t, request{"GET", "/v1/nodes/n1/logs", "", "", api.RoleOperator}); text != "one\ntwo\n" || resp.Trailer.Get(trailerError) != "" {
		t.Errorf("%q, %q", text, resp.Trailer)
	}
}

func TestFilesBothWays(t *testing.T) {
	var got string
	var as Upload
	s := &stage{get: func(_ context.Context, w io.Writer) (string, error) {
		_, err := io.WriteString(w, "content")
		return "5a", err
	}, put: func(_ context.Context, u Upload, r io.Reader) error {
		raw, err := io.ReadAll(r)
		got, as = string(raw), u
		return err
	}}
	th := open(t, s)
	resp, text := th.do(t, request{"GET", "/v1/nodes/n1/files?path=/x", "", "", api.RoleOperator})
	if text != "content" || resp.Trailer.Get(trailerSHA256) != "5a" {
		t.Errorf("%q, %v", text, resp.Trailer)
	}
	th.entry(t)
	resp, text = th.do(t, request{"PUT", "/v1/nodes/n1/files?path=/x&size=7&mode=0600&newMode=0640&sha256=5a", "content", "", api.RoleOperator})
	if resp.StatusCode != http.StatusNoContent || got != "content" || as != (Upload{"n1", "/x", "0600", "5a", "0640", 7}) {
		t.Errorf("%s %q: got %q as %+v", resp.Status, text, got, as)
	}
	if e := th.entry(t); e.Action != "file.put" || e.Object != "n1:/x" || e.Result != "ok" {
		t.Errorf("audit %+v", e)
	}
	for _, size := range []string{"", "-1", "x", "6", "8"} {
		p := th.refused(t, request{"PUT", "/v1/nodes/n1/files?path=/x&size=" + size, "content", "", api.RoleOperator})
		if p.Status != http.StatusBadRequest || !strings.Contains(p.Error(), "query.size") {
			t.Errorf("size %q: %s", size, p.Error())
		}
		if e := th.entry(t); e.Action != "file.put" || e.Result == "ok" {
			t.Errorf("size %q: audit %+v", size, e)
		}
	}
}

func TestAWatchIsWhatWasAskedFor(t *testing.T) {
	var asked WatchQuery
	th := open(t, &stage{watch: func(_ context.Context, q WatchQuery, take func(api.Change) error) error {
		asked = q
		if err := take(api.Change{Kind: "node", Type: "added", Node: &api.Node{ID: "n1"}}); err != nil {
			return err
		}
		return errors.New("the reader is too slow")
	}})
	_, text := th.do(t, request{"GET", "/v1/watch?kind=node&kind=event&node=n1&selector=a%3Db&initial=true", "", "", api.RoleViewer})
	if len(asked.Kinds) != 2 || asked.Node != "n1" || asked.Selector != "a=b" || !asked.Initial {
		t.Errorf("asked for %+v", asked)
	}
	if !strings.Contains(text, `"id":"n1"`) || !strings.Contains(text, "too slow") {
		t.Errorf("%q; wanted the change before the end, and why it ended", text)
	}
}
