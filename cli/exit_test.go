package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/freeport"
)

// alone runs the command line with a context file of its own making.
func alone(t *testing.T, ctx context.Context, x Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	c := Contexts{Current: x.Name, Contexts: []Context{x}}
	if x.Name == "" {
		c = Contexts{}
	}
	if err := c.save(path); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	app := &App{Out: &out, Err: &errs, In: strings.NewReader(""), Now: time.Now, Env: func(string) string { return path }}
	code = app.Main(ctx, args)
	return code, out.String(), errs.String()
}

func strangerCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func answerWith(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		if _, err := w.Write([]byte(body)); err != nil {
			return
		}
	}
}

func TestEveryAnswerHasItsExitCodeAndSomethingToRead(t *testing.T) {
	const problem = "application/problem+json"
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		code   int
		says   []string
	}{
		"fields": {answerWith(422, problem, `{"status":422,"title":"Unprocessable Entity","detail":"validation failed","errors":[`+
			`{"message":"expected string","location":"body.verb","value":7},{"message":"unexpected property","location":"body.verbb","value":"ping"},`+
			`{"message":"expected object","location":"body","value":{"a":"long one"}}]}`), ExitUsage,
			[]string{"body.verb 7: expected string", `body.verbb "ping": unexpected property`, "body: expected object"}},
		"too large":         {answerWith(413, problem, `{"status":413,"title":"x","detail":"body is too large"}`), ExitUsage, []string{"too large"}},
		"too many":          {retryAfter("17"), ExitError, []string{"slow down", "ask again in 17 s"}},
		"a lying body":      {answerWith(404, problem, `{"status":200,"title":"","detail":"gone"}`), ExitNotFound, []string{"gone"}},
		"an empty body":     {answerWith(403, "text/plain", ""), ExitForbidden, []string{"403 Forbidden", "proxy"}},
		"an empty object":   {answerWith(409, "application/json", "{}"), ExitConflict, []string{"409 Conflict"}},
		"a list":            {answerWith(500, "application/json", "[]"), ExitError, []string{"500"}},
		"another's page":    {answerWith(502, "text/html", "<html><script>"+strings.Repeat("x", 70000)), ExitUnreachable, []string{"502 Bad Gateway", "proxy"}},
		"text":              {answerWith(401, "text/plain; charset=utf-8", "go away\x1b[2J\n"), ExitForbidden, []string{"go away·[2J"}},
		"query API":         {answerWith(400, "application/json", `{"status":"error","errorType":"bad_data","error":"parse error"}`), ExitUsage, []string{"parse error"}},
		"the node's no":     {answerWith(502, problem, `{"status":502,"title":"x","detail":"no such file","code":"transfer_failed"}`), ExitCommand, []string{"no such file"}},
		"no identity":       {answerWith(503, problem, `{"status":503,"title":"x","detail":"cannot be asked","code":"oidc_unavailable","cure":"use a token"}`), ExitUnreachable, []string{"use a token"}},
		"a stalled answer":  {cutShort, ExitUnreachable, []string{"read answer"}},
		"an answer of junk": {answerWith(200, "application/json", "{"), ExitError, []string{"read answer"}},
	} {
		code, _, errs := run(t, map[string]http.HandlerFunc{"/v1/nodes": c.answer}, "get", "nodes")
		if code != c.code || len(errs) > 2000 || strings.ContainsAny(errs, "\x1b<") {
			t.Errorf("%s: exit %d, %.300q; wanted %d", name, code, errs, c.code)
		}
		for _, want := range c.says {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: %.300q does not say %q", name, errs, want)
			}
		}
	}
}

func retryAfter(seconds string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", seconds)
		answerWith(429, "application/problem+json", `{"status":429,"title":"x","detail":"slow down"}`)(w, r)
	}
}

// cutShort promises more than it sends.
func cutShort(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	if _, err := w.Write([]byte(`{"items":[`)); err != nil {
		return
	}
}

func TestUnreachable(t *testing.T) {
	closed := "https://" + freeport.Addr(t)
	code, _, errs := alone(t, t.Context(), Context{Name: "a", Server: closed, CA: strangerCA(t), Token: "x"}, "get", "nodes")
	if code != ExitUnreachable || !strings.Contains(errs, "is skerry-cluster running") {
		t.Errorf("nobody there: exit %d, %s", code, errs)
	}
	for _, c := range []struct {
		ca, says string
	}{{strangerCA(t), "another CA"}, {"no PEM", "import the context again"}} {
		want := ExitUnreachable
		if c.ca == "no PEM" {
			want = ExitUsage
		}
		code, errs := against(t, c.ca, "get", "nodes")
		if code != want || !strings.Contains(errs, c.says) {
			t.Errorf("CA %.10s: exit %d, %s; wanted %d and %q", c.ca, code, errs, want, c.says)
		}
	}
}

// against runs the command line against a server that is not of ca.
func against(t *testing.T, ca string, args ...string) (code int, stderr string) {
	t.Helper()
	srv := tlsServer(t, http.NotFoundHandler())
	code, _, stderr = alone(t, t.Context(), Context{Name: "a", Server: srv.URL, CA: ca, Token: "x"}, args...)
	return code, stderr
}

func TestNotFoundIsNotFoundAlsoInAList(t *testing.T) {
	code, _, errs := run(t, map[string]http.HandlerFunc{"/v1/tokens": reply(api.List[api.Token]{Items: []api.Token{{ID: "t1"}}})}, "get", "tokens", "t2")
	if code != ExitNotFound || !strings.Contains(errs, "t2") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestNoContextIsAUsageError(t *testing.T) {
	for _, args := range [][]string{{"get", "nodes"}, {"--context", "b", "get", "nodes"}} {
		if code, _, errs := alone(t, t.Context(), Context{}, args...); code != ExitUsage || !strings.Contains(errs, "context") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
}

func TestInterruptedIsToldAsAShellDoes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := tlsServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	code, _, errs := alone(t, ctx, Context{Name: "a", Server: srv.URL, CA: caOf(srv), Token: "x"}, "get", "nodes")
	if code != 130 || errs != "" {
		t.Errorf("exit %d, %q; wanted 130 and silence", code, errs)
	}
}

func openRecord(phase api.Phase) api.CommandRecord {
	return api.CommandRecord{ID: "c1", Node: "n1", Verb: "ping", Phase: phase, Final: phase.Final()}
}

func watchAnswer(w http.ResponseWriter, rec api.CommandRecord) {
	raw, err := json.Marshal(api.Change{Kind: "command", Type: "modified", Command: &rec})
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if _, err := w.Write([]byte("data: " + string(raw) + "\n\n")); err != nil {
		return
	}
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

func TestWaitingTooLongHasACodeOfItsOwn(t *testing.T) {
	routes := map[string]http.HandlerFunc{
		"/v1/commands": reply(api.List[api.CommandRecord]{Items: []api.CommandRecord{openRecord(api.PhaseDelivered)}}),
		"/v1/watch": func(w http.ResponseWriter, r *http.Request) {
			watchAnswer(w, openRecord(api.PhaseRunning))
			<-r.Context().Done()
		}}
	code, _, errs := run(t, routes, "run", "ping", "--on", "n1", "--wait", "--timeout", "3s")
	if code != ExitTimeout || !strings.Contains(errs, "skerry get commands --open") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestWaitingOutlivesARestartOfTheClusterAgent(t *testing.T) {
	var watches atomic.Int32
	routes := map[string]http.HandlerFunc{
		"/v1/commands": reply(api.List[api.CommandRecord]{Items: []api.CommandRecord{openRecord(api.PhaseDelivered)}}),
		"/v1/watch": func(w http.ResponseWriter, r *http.Request) {
			switch watches.Add(1) {
			case 1: // it says goodbye
				watchAnswer(w, openRecord(api.PhaseRunning))
			case 2: // it is not ready yet
				refuse(503)(w, r)
			default:
				watchAnswer(w, openRecord(api.PhaseSucceeded))
			}
		}}
	code, _, errs := run(t, routes, "run", "ping", "--on", "n1", "--wait", "--timeout", "2m")
	if code != ExitOK || watches.Load() != 3 {
		t.Errorf("exit %d after %d watches, %s", code, watches.Load(), errs)
	}
}

func TestATokenFileIsReadForEveryRequest(t *testing.T) {
	var got []string
	srv := tlsServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
		reply(api.List[api.Node]{})(w, r)
	}))
	file := filepath.Join(t.TempDir(), "token")
	put := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := NewClient(Context{Name: "a", Server: srv.URL, CA: caOf(srv), Token: "old", TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"one\n", "two"} {
		put(token)
		if err := c.Get(t.Context(), "/v1/nodes", nil); err != nil {
			t.Fatal(err)
		}
	}
	put("flag")
	if code, _, errs := alone(t, t.Context(), Context{Name: "a", Server: srv.URL, CA: caOf(srv), Token: "old"}, "get", "nodes", "--token-file", file); code != 0 {
		t.Errorf("exit %d, %s", code, errs)
	}
	if strings.Join(got, ",") != "Bearer one,Bearer two,Bearer flag" {
		t.Errorf("sent %q", got)
	}
	for _, bad := range []string{"", " \n", "two words", "a\nb", strings.Repeat("x", 20<<10)} {
		put(bad)
		x := Context{Name: "a", Server: srv.URL, CA: caOf(srv), TokenFile: file}
		code, _, errs := alone(t, t.Context(), x, "get", "nodes")
		if code != ExitForbidden || !strings.Contains(errs, "log in again") {
			t.Errorf("token %.10q: exit %d, %s", bad, code, errs)
		}
	}
	x := Context{Name: "a", Server: srv.URL, CA: caOf(srv), TokenFile: file + ".none"}
	if code, _, errs := alone(t, t.Context(), x, "get", "nodes"); code != ExitForbidden || !strings.Contains(errs, "token_file") {
		t.Errorf("no file: exit %d, %s", code, errs)
	}
}

func TestAnImportedContextKeepsItsTokenFile(t *testing.T) {
	dir := t.TempDir()
	mine, theirs := filepath.Join(dir, "mine", "config.yaml"), filepath.Join(dir, "site.yaml")
	site := Contexts{Current: "s", Contexts: []Context{{Name: "s", Server: "https://s:1", TokenFile: "token"}}}
	if err := site.save(theirs); err != nil {
		t.Fatal(err)
	}
	imported := func(args ...string) Context {
		var out, errs bytes.Buffer
		app := &App{Out: &out, Err: &errs, Now: time.Now, Env: func(string) string { return mine }}
		if code := app.Main(t.Context(), append([]string{"context", "import", theirs}, args...)); code != 0 {
			t.Fatal(errs.String())
		}
		all, err := loadContexts(mine)
		if err != nil {
			t.Fatal(err)
		}
		return all.Contexts[0]
	}
	if x := imported(); x.TokenFile != filepath.Join(dir, "token") {
		t.Errorf("token file %s; wanted the one beside the imported file", x.TokenFile)
	}
	if x := imported("--token-file", "/run/id/token"); x.TokenFile != "/run/id/token" || x.Token != "" {
		t.Errorf("%+v", x)
	}
}
