package cli

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// newServer plays a cluster agent by routes; the result is the environment that leads there.
func newServer(t *testing.T, routes map[string]http.HandlerFunc) func(string) string {
	t.Helper()
	mux := http.NewServeMux()
	for path, h := range routes {
		mux.HandleFunc(path, h)
	}
	srv := tlsServer(t, mux)
	path := filepath.Join(t.TempDir(), "config.yaml")
	c := Contexts{Current: "test", Contexts: []Context{{Name: "test", Server: srv.URL, CA: caOf(srv), Token: "skat_x_y"}}}
	if err := c.save(path); err != nil {
		t.Fatal(err)
	}
	return func(k string) string { return map[string]string{"SKERRY_CONFIG": path}[k] }
}

// run runs the command line against a cluster agent played by routes.
func run(t *testing.T, routes map[string]http.HandlerFunc, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	app := &App{Out: &out, Err: &errs, In: strings.NewReader(""), Now: time.Now, Env: newServer(t, routes)}
	code = app.Main(t.Context(), args)
	return code, out.String(), errs.String()
}

func tlsServer(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // of clients that do not trust it
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func caOf(srv *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
}

func reply(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if json.NewEncoder(w).Encode(v) != nil {
			return
		}
	}
}

func refuse(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		if json.NewEncoder(w).Encode(api.Problem{Status: status, Title: "no", Detail: "because", Cure: "do this"}) != nil {
			return
		}
	}
}

func node(id string) api.Node {
	return api.Node{ID: id, Presence: api.PresenceDisconnected, Reason: "connection lost: nothing passed for 1m30s, for all we know",
		Since: api.At(time.Now().Add(-49 * time.Hour)), LastSeen: api.At(time.Now()), Birth: &api.Birth{Version: "1.2.3-rc.1+build",
			Host: api.Host{Arch: "riscv64"}, Backlog: api.Backlog{Batches: 123, Bytes: 1 << 20}},
		Certificate: api.Certificate{NotAfter: api.At(time.Now().Add(1000 * time.Hour))}}
}

func TestTheNodeTableFitsAHundredColumns(t *testing.T) {
	code, out, errs := run(t, map[string]http.HandlerFunc{"/v1/nodes": reply(api.List[api.Node]{Items: []api.Node{node("pump-station-3.harbour")}})},
		"get", "nodes")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	for line := range strings.Lines(out) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestEveryFormatSaysTheSame(t *testing.T) {
	for format, want := range map[string]string{"json": `"id": "n1"`, "yaml": "id: n1", "name": "n1", "table": "disconnected", "wide": "KERNEL"} {
		code, out, errs := run(t, map[string]http.HandlerFunc{"/v1/nodes": reply(api.List[api.Node]{Items: []api.Node{node("n1")}})},
			"get", "nodes", "-o", format)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("-o %s: exit %d, %s%s; wanted %q in it", format, code, out, errs, want)
		}
	}
}

func TestExitCodesTellWhatWentWrong(t *testing.T) {
	for status, want := range map[int]int{404: ExitNotFound, 403: ExitForbidden, 401: ExitForbidden, 409: ExitConflict, 503: ExitUnreachable, 500: ExitError} {
		code, _, errs := run(t, map[string]http.HandlerFunc{"/v1/nodes": refuse(status)}, "get", "nodes")
		if code != want || !strings.Contains(errs, "because") || !strings.Contains(errs, "do this") {
			t.Errorf("answer %d: exit %d, %q; wanted %d with detail and cure", status, code, errs, want)
		}
	}
	for _, args := range [][]string{{"get", "nodes", "-o", "xml"}, {"get"}, {"run", "ping"}, {"nonsense"}, {"access", "lisst"}, {"get", "nodes", "--nonsense"}} {
		if code, _, _ := run(t, nil, args...); code != ExitUsage {
			t.Errorf("%v: exit %d; wanted %d", args, code, ExitUsage)
		}
	}
}

func TestACommandThatFailsFailsTheProgram(t *testing.T) {
	rec := api.CommandRecord{ID: "c1", Node: "n1", Verb: "ping", Phase: api.PhaseRejected, Final: true,
		Status: &api.Status{ID: "c1", Phase: api.PhaseRejected, Reason: "not allowed"}}
	code, _, errs := run(t, map[string]http.HandlerFunc{"/v1/commands": reply(api.List[api.CommandRecord]{Items: []api.CommandRecord{rec}})},
		"run", "ping", "--on", "n1", "--wait")
	if code != ExitCommand || !strings.Contains(errs, "not allowed") {
		t.Errorf("exit %d, %q; wanted %d and the reason", code, errs, ExitCommand)
	}
}

func TestArgumentsAreJSONWhereTheyAreJSON(t *testing.T) {
	got, err := parseArgs([]string{"lines=5", "follow=true", "source=agent", `argv=["a","b"]`, "=mode=0644"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(got)
	if err != nil || string(raw) != `{"argv":["a","b"],"follow":true,"lines":5,"mode":"0644","source":"agent"}` {
		t.Errorf("%s, %v", raw, err)
	}
}

func TestABundleHoldsNoSecret(t *testing.T) {
	text := `{"join":"skerry1.abc-DEF","secret":"s3cr3t","token": "t0ken","x":"skat_id_secret"}` +
		"\n-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"
	clean := redact(text)
	for _, secret := range []string{"abc-DEF", "s3cr3t", "t0ken", "id_secret", "MIGH"} {
		if strings.Contains(clean, secret) {
			t.Errorf("%q is still in %s", secret, clean)
		}
	}
}

func TestWhatANodeSaysCannotMoveTheCursor(t *testing.T) {
	if got := printable("a\x1b[2Jb\nc\u009b"); strings.ContainsAny(got, "\x1b\n\u009b") {
		t.Errorf("%q", got)
	}
}

func TestContextsAreForTheirOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "config.yaml")
	c := Contexts{}
	c.put(Context{Name: "a", Token: "1"})
	c.put(Context{Name: "a", Token: "2"})
	if err := c.save(path); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; wanted 0600", st.Mode(), err)
	}
	back, err := loadContexts(path)
	if x, perr := back.pick(""); err != nil || perr != nil || len(back.Contexts) != 1 || x.Token != "2" {
		t.Errorf("%+v, %v, %v", back, err, perr)
	}
	if _, err := back.pick("b"); err == nil {
		t.Error("a context that is not there was found")
	}
}
