package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// fill puts long values into every field of v.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Repeat("long\nvalue ", 20))
	case reflect.Int, reflect.Int64:
		v.SetInt(1700000000000)
	case reflect.Uint64:
		v.SetUint(1 << 62)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		if v.Type().Elem().Kind() == reflect.String {
			m.SetMapIndex(reflect.ValueOf(strings.Repeat("key", 20)).Convert(v.Type().Key()), reflect.ValueOf(strings.Repeat("value", 20)))
		}
		v.Set(m)
	}
}

func long[T any]() api.List[T] {
	var it T
	fill(reflect.ValueOf(&it).Elem())
	return api.List[T]{Items: []T{it}}
}

func TestEveryTableFitsAHundredColumnsWhateverIsInIt(t *testing.T) {
	n := long[api.Node]()
	n.Items[0].Birth = &api.Birth{Host: api.Host{Arch: strings.Repeat("a", 50), OS: strings.Repeat("o", 200)}, Version: strings.Repeat("v", 90)}
	series := `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"m","node":"` + strings.Repeat("x", 300) + `"},"value":[1,"2"]}]}}`
	routes := map[string]http.HandlerFunc{
		"/v1/nodes": reply(n), "/v1/commands": reply(long[api.CommandRecord]()), "/v1/events": reply(long[api.EventRecord]()),
		"/v1/tokens": reply(long[api.Token]()), "/v1/enrollments": reply(long[api.Enrollment]()), "/v1/operators": reply(long[api.Operator]()),
		"/v1/access-tokens": reply(long[api.AccessToken]()), "/v1/audit": reply(long[api.AuditEntry]()), "/v1/images": reply(long[api.Image]()),
		"/v1/releases": reply(long[api.Release]()), "/v1/rollouts": reply(long[api.Rollout]()),
		"/api/v1/query": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(series)) },
	}
	for _, k := range (&App{}).kinds() {
		code, out, errs := run(t, routes, "get", k.plural)
		if code != 0 {
			t.Fatalf("get %s: exit %d, %s", k.plural, code, errs)
		}
		narrow(t, "get "+k.plural, out)
		if strings.Count(out, "\n") != 2 {
			t.Errorf("get %s: %d lines", k.plural, strings.Count(out, "\n"))
		}
		if _, all, _ := run(t, routes, "get", k.plural, "-o", "wide"); strings.Contains(all, "…") {
			t.Errorf("get %s -o wide cuts something off: %s", k.plural, all)
		}
	}
	for _, args := range [][]string{{"top", "nodes"}, {"query", "m"}} {
		code, out, errs := run(t, routes, args...)
		if code != 0 {
			t.Fatalf("%v: exit %d, %s", args, code, errs)
		}
		narrow(t, strings.Join(args, " "), out)
	}
}

func TestADamagedReleaseIsToldFromOneWithoutTargets(t *testing.T) {
	routes := map[string]http.HandlerFunc{"/v1/releases": reply(api.List[api.Release]{Items: []api.Release{
		{Version: "1.4.0", Targets: []string{}, Damaged: "manifest.json: unexpected end"}, {Version: "1.5.0", Files: 1, Targets: []string{"linux-amd64/lite"}}}})}
	code, out, errs := run(t, routes, "release", "list")
	lines := strings.Split(out, "\n")
	if code != 0 || len(lines) < 3 || !strings.Contains(lines[1], "damaged: import it again, or remove it") || !strings.Contains(lines[2], "linux-amd64/lite") {
		t.Errorf("exit %d, %s\n%s", code, errs, out)
	}
	if _, out, _ = run(t, routes, "release", "list", "-o", "json"); !strings.Contains(out, `"damaged": "manifest.json: unexpected end"`) {
		t.Errorf("as JSON: %s", out)
	}
}

func TestAReleaseThatIsNeededIsRemovedByForceAlone(t *testing.T) {
	var asked []string
	routes := map[string]http.HandlerFunc{"/v1/releases/1.4.0": func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		w.WriteHeader(http.StatusNoContent)
	}}
	for _, args := range [][]string{{"release", "remove", "1.4.0"}, {"release", "remove", "1.4.0", "--force"}} {
		if code, out, errs := run(t, routes, args...); code != 0 || out != "1.4.0 removed\n" {
			t.Errorf("%v: exit %d, %s%s", args, code, out, errs)
		}
	}
	if got := strings.Join(asked, ", "); got != "DELETE /v1/releases/1.4.0, DELETE /v1/releases/1.4.0?force=true" {
		t.Errorf("it asked %s", got)
	}
}

func TestAFullMirrorSaysWhatToRemove(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "bundle.tar")
	if err := os.WriteFile(bundle, []byte("whatever: the answer is played"), 0o600); err != nil {
		t.Fatal(err)
	}
	routes := map[string]http.HandlerFunc{"/v1/releases": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusInsufficientStorage)
		_, _ = io.WriteString(w, `{"status":507,"title":"no room for the release","code":"release_no_room","detail":"1 MiB are free","cure":"skerry release remove VERSION"}`)
	}}
	code, _, errs := run(t, routes, "release", "import", bundle)
	if code != 1 || !strings.Contains(errs, "1 MiB are free") || !strings.Contains(errs, "skerry release remove VERSION") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// watched plays a watch of nodes that changes as told and then stands still.
func watched(changes ...api.Change) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, ch := range changes {
			raw, err := json.Marshal(ch)
			if err != nil {
				return
			}
			if _, err := fmt.Fprintf(w, "data: %s\n\n", raw); err != nil {
				return
			}
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		<-r.Context().Done()
	}
}

// watching runs a watch until its output has so many lines.
func watching(t *testing.T, routes map[string]http.HandlerFunc, lines int, args ...string) string {
	t.Helper()
	srv := newServer(t, routes)
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs buffer
	done := make(chan int, 1)
	app := &App{Out: &out, Err: &errs, In: strings.NewReader(""), Now: time.Now, Env: srv}
	go func() { done <- app.Main(ctx, args) }()
	eventually(t, fmt.Sprintf("%d lines", lines), func() bool { return strings.Count(out.String(), "\n") >= lines })
	cancel()
	if code := <-done; code != exitSignal {
		t.Errorf("exit %d, %s", code, errs.String())
	}
	return out.String()
}

func TestAWatchLinesUpAndSaysNothingTwice(t *testing.T) {
	one := func(presence api.Presence, reason string) *api.Node {
		return &api.Node{ID: "n1", Presence: presence, Reason: reason, Since: api.At(time.Now()), LastSeen: api.At(time.Now().Add(-9 * time.Second))}
	}
	ch := func(n *api.Node) api.Change { return api.Change{Kind: "node", Type: "modified", Node: n} }
	second := one(api.PresenceOnline, "connected")
	second.LastSeen = api.At(time.Now().Add(-100 * time.Second))
	other := one(api.PresenceOnline, "connected")
	other.ID = "a-node-with-a-longer-name"
	gone := api.Change{Kind: "node", Type: "deleted", Node: other}
	routes := map[string]http.HandlerFunc{
		"/v1/nodes": reply(api.List[api.Node]{Items: []api.Node{*one(api.PresenceOnline, "connected")}}),
		"/v1/watch": watched(ch(second), ch(one(api.PresenceLost, "gone")), ch(one(api.PresenceLost, "gone")), ch(other), gone)}
	out := watching(t, routes, 6, "get", "nodes", "-w")
	rows := strings.Split(strings.TrimSpace(out), "\n")
	// heading, n1 online, n1 lost, a new heading for the longer name, its row, and that it is gone
	if len(rows) != 6 || !strings.HasPrefix(rows[3], "NODE ") || !strings.HasSuffix(rows[5], "(deleted)") {
		t.Fatalf("wanted 6 rows:\n%s", out)
	}
	for _, page := range [][]string{rows[:3], rows[3:]} {
		at := strings.Index(page[0], "STATE")
		for _, r := range page[1:] {
			if strings.TrimSpace(r[at-2:at]) != "" || r[at] == ' ' {
				t.Errorf("does not line up:\n%s", out)
			}
		}
	}
	narrow(t, "get nodes -w", out)
	lines := watching(t, routes, 5, "get", "nodes", "-w", "-o", "json")
	var how []string
	for line := range strings.Lines(lines) {
		var item struct{ ID, Change string }
		if err := json.Unmarshal([]byte(line), &item); err != nil || item.ID == "" {
			t.Errorf("%v in %s", err, line)
		}
		how = append(how, item.Change)
	}
	if got := strings.Join(how, " "); got != "added modified modified added deleted" {
		t.Errorf("changes %s:\n%s", got, lines)
	}
}

func TestAWatchOutlivesARestart(t *testing.T) {
	n := api.Node{ID: "n1", Presence: api.PresenceOnline}
	lists, watches := 0, 0
	routes := map[string]http.HandlerFunc{
		"/v1/nodes": func(w http.ResponseWriter, r *http.Request) {
			if lists++; lists == 2 {
				refuse(503)(w, r)
				return
			}
			m := n
			if lists > 2 {
				m.Presence = api.PresenceLost
			}
			reply(api.List[api.Node]{Items: []api.Node{m}})(w, r)
		},
		"/v1/watch": func(w http.ResponseWriter, r *http.Request) {
			if watches++; watches > 1 {
				watched()(w, r)
			}
		}}
	out := watching(t, routes, 3, "get", "nodes", "-w")
	if rows := strings.Split(strings.TrimSpace(out), "\n"); len(rows) != 3 || !strings.Contains(rows[2], "lost") {
		t.Errorf("wanted a heading, a row and the change:\n%s", out)
	}
}

func TestASilentAgentIsGivenUp(t *testing.T) {
	silent := func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil { // only then is the caller's leave noticed
			<-r.Context().Done()
		}
	}
	routes := map[string]http.HandlerFunc{"/v1/nodes": silent, "/v1/status": silent, "/v1/watch": silent, "/v1/commands": silent, "/v1/nodes/n1/run": silent}
	for _, args := range [][]string{{"get", "nodes"}, {"doctor"}, {"run", "ping", "--on", "n1"}} {
		code, _, errs := run(t, routes, append(args, "--request-timeout", "200ms")...)
		if code != ExitUnreachable || !strings.Contains(errs, "within 200ms") || !strings.Contains(errs, "--request-timeout") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	if _, _, errs := run(t, routes, "run", "ping", "--on", "n1", "--request-timeout", "200ms"); !strings.Contains(errs, "skerry describe command ") {
		t.Errorf("%s: wanted the id, for it may have been taken", errs)
	}
	if code, _, _ := run(t, nil, "get", "nodes", "--request-timeout", "-1s"); code != ExitUsage {
		t.Errorf("exit %d", code)
	}
}

func TestMistakesAreUsageErrors(t *testing.T) {
	for _, args := range [][]string{{"demo", "--for", "-3s"}, {"demo", "--nodes", "0"}, {"get", "nodes", "--open"}, {"get", "tokens", "--node", "n"},
		{"get", "audit", "-w"}, {"get", "accesses"}, {"run", "ping", "-l", "=", "-f"}, {"logs", "n1", "--since", "-1m"}, {"logs", "n1", "--tail", "-1"},
		{"support-bundle", "--nodes", "-1"}, {"describe", "pod", "x"}, {"top", "pods"}, {"query", "x", "-o", "xml"}} {
		if code, _, errs := run(t, nil, args...); code != ExitUsage || errs == "" {
			t.Errorf("%v: exit %d, %q; wanted %d", args, code, errs, ExitUsage)
		}
	}
}

func TestALogIsCutByTime(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	const log = "time=2026-11-26T11:00:00.000Z level=INFO msg=old\n  more of old\n{\"time\":\"2026-11-26T11:55:00Z\",\"msg\":\"new\"}\n  more of new\n"
	var out bytes.Buffer
	if err := younger(&out, strings.NewReader(log), now.Add(-10*time.Minute)); err != nil || strings.Contains(out.String(), "old") || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%v, %s", err, out.String())
	}
	if err := younger(&out, strings.NewReader("no time\n"), now); err == nil {
		t.Error("a log without times was cut by time")
	}
	if err := younger(&out, strings.NewReader(""), now); err != nil {
		t.Error(err)
	}
}

func TestYAMLTellsInstantsInWords(t *testing.T) {
	var out bytes.Buffer
	if err := writeYAML(&out, api.List[api.Node]{Items: []api.Node{{ID: "n1", LastSeen: 1764000000123}}}); err != nil {
		t.Fatal(err)
	}
	if want := "lastSeen: 1764000000123 # 2025-11-24T16:00:00.123Z\n"; !strings.Contains(out.String(), want) || strings.Contains(out.String(), "0 #") {
		t.Errorf("%s; wanted %s", out.String(), want)
	}
}

func TestADescribedCommandTellsItsStepsApartAndItsProgress(t *testing.T) {
	at := api.At(time.Now())
	rec := api.CommandRecord{ID: "c1", Node: "n1", Verb: "ping", Created: at, Phase: api.PhaseSucceeded, Final: true, History: []api.Transition{
		{Phase: api.PhaseQueued, At: at, Side: "cluster"}, {Phase: api.PhaseRunning, At: at + 7, Side: "node"}, {Phase: api.PhaseSucceeded, At: at + 12_345, Side: "node"}},
		Status: &api.Status{ID: "c1", Phase: api.PhaseSucceeded, Progress: "2 of 3"}}
	_, out, _ := run(t, map[string]http.HandlerFunc{"/v1/commands/c1": reply(rec)}, "describe", "command", "c1")
	for _, want := range []string{"+0 ms", "+7 ms", "+12.3 s", instantOf(at + 7), "Progress", "2 of 3"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s\nwanted %s", out, want)
		}
	}
}

func TestTheDoctorTellsTheAgentsTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		status, says string
		code         int
	}{
		"well":        {`"broker":"up"`, "ok    broker       up", ExitOK},
		"broker":      {`"broker":"down"`, "FAIL  broker       down", ExitError},
		"nodes":       {`"broker":"up","nodes":{"online":1,"lost":1}`, "FAIL  nodes        1 of 2 online", ExitError},
		"put off":     {`"broker":"up","trouble":["telemetry is put off"]`, "FAIL  trouble      telemetry is put off", ExitError},
		"disk":        {`"broker":"up","trouble":["disk is nearly full: free some"]`, "WARN  trouble      disk is nearly full: free some", ExitOK},
		"kubernetes":  {`"broker":"up","trouble":["kubernetes is out of reach since x: y"]`, "WARN  trouble      kubernetes is out", ExitOK},
		"clock":       {`"broker":"up","trouble":["clock is not synchronised: run one"]`, "WARN  trouble      clock", ExitOK},
		"certificate": {`"broker":"up","trouble":["CA certificate ends at 2027-01-01, in 9 days: x"]`, "WARN  trouble      CA", ExitOK},
		"ended":       {`"broker":"up","trouble":["CA certificate ends at 2020-01-01, in -9 days: x"]`, "FAIL  trouble      CA", ExitError},
		"approvals":   {`"broker":"up","pending":2`, "WARN  approvals    waiting", ExitOK},
	} {
		routes := map[string]http.HandlerFunc{"/v1/status": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"cluster":"c","version":"v","now":%d,%s}`, api.At(time.Now()), c.status)
		}}
		code, out, _ := run(t, routes, "doctor")
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit %d, %s; wanted %d and %q", name, code, out, c.code, c.says)
		}
		code, out, _ = run(t, routes, "doctor", "-o", "json")
		var checks []check
		if err := json.Unmarshal([]byte(out), &checks); err != nil || code != c.code {
			t.Errorf("%s: exit %d, %v in %s", name, code, err, out)
		}
		for _, k := range checks {
			if k.OK != (k.Level != levelFail) || k.Level == "" {
				t.Errorf("%s: %+v", name, k)
			}
		}
	}
}

func TestEveryFlagForADurationTakesDays(t *testing.T) {
	var asked api.TokenRequest
	routes := map[string]http.HandlerFunc{"/v1/tokens": func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		reply(api.Token{ID: "t1", Join: "skerry1.x"})(w, r)
	}}
	if code, _, errs := run(t, routes, "token", "create", "--ttl", "7d"); code != ExitOK || asked.TTL != "168h0m0s" {
		t.Errorf("exit %d, %s, asked for %q", code, errs, asked.TTL)
	}
	if code, _, errs := run(t, routes, "token", "create", "--ttl", "7x"); code != ExitUsage || !strings.Contains(errs, "7d") {
		t.Errorf("exit %d, %s", code, errs)
	}
	if _, out, _ := run(t, nil, "operator", "create", "--help"); !strings.Contains(out, "(default 90d)") {
		t.Errorf("%s: wanted 90d", out)
	}
}
