package telemetry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/skerry-edge/skerry/api"
)

func row() api.Row { return api.Row{} }

func serveStore(t *testing.T, s *Store) string {
	t.Helper()
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return srv.URL
}

func sent(s *running) int {
	return int(testutil.ToFloat64(s.metrics.remoteSent.WithLabelValues("peer")))
}

// canonical keeps what of an answer is promised: status, data, error type and text.
func canonical(t *testing.T, body string) string {
	t.Helper()
	var a struct {
		Status    string          `json:"status"`
		Data      json.RawMessage `json:"data"`
		ErrorType string          `json:"errorType"`
		Error     string          `json:"error"`
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("answer %.200q: %v", body, err)
	}
	data := string(a.Data)
	var result struct {
		ResultType string            `json:"resultType"`
		Result     []json.RawMessage `json:"result"`
	}
	if json.Unmarshal(a.Data, &result) == nil && (result.ResultType == "vector" || result.ResultType == "matrix") {
		data = result.ResultType + sorted(result.Result)
	}
	var list []json.RawMessage
	if json.Unmarshal(a.Data, &list) == nil {
		data = sorted(list)
	}
	text, _, _ := strings.Cut(a.Error, "on the right hand-side") // what follows has no order
	text = strings.TrimPrefix(strings.TrimPrefix(text, `invalid parameter "query": `), `invalid parameter "match[]": `)
	return fmt.Sprintf("%s %s %s %s", a.Status, decimals.ReplaceAllStringFunc(data, round), a.ErrorType, strings.ToLower(text))
}

// decimals finds values: their last digits depend on the order of additions, which changed with a release.
var decimals = regexp.MustCompile(`"-?[0-9]+\.[0-9]+"`)

func round(quoted string) string {
	v, err := strconv.ParseFloat(strings.Trim(quoted, `"`), 64)
	if err != nil {
		return quoted
	}
	return strconv.FormatFloat(v, 'g', 12, 64)
}

func sorted(list []json.RawMessage) string {
	slices.SortFunc(list, func(a, b json.RawMessage) int { return cmp.Compare(string(a), string(b)) })
	var b strings.Builder
	for _, x := range list {
		fmt.Fprintf(&b, "\n%s", x)
	}
	return b.String()
}

func TestQueriesCanBePosted(t *testing.T) {
	s := start(t, Config{Query: QueryLimits{BodyBytes: 200}})
	mustAppend(t, s.Store, "n", batch("m", time.UnixMilli(time.Now().UnixMilli()), 0, 2.5))
	resp, err := http.PostForm(serveStore(t, s.Store)+"/api/v1/query", url.Values{"query": {"m*2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || len(got.Data.Result) != 1 || got.Data.Result[0].Value[1] != "5" {
		t.Errorf("got %+v, %v; wanted 5", got, err)
	}
	long, err := http.PostForm(serveStore(t, s.Store)+"/api/v1/query", url.Values{"query": {strings.Repeat("m+", 200) + "m"}})
	if err != nil {
		t.Fatal(err)
	}
	defer long.Body.Close()
	if long.StatusCode != http.StatusBadRequest {
		t.Errorf("a long form got %d; wanted 400", long.StatusCode)
	}
}

func TestQueryLimitsAnswerAsPrometheusDoes(t *testing.T) {
	s := start(t, Config{Query: QueryLimits{MaxSamples: 50, Timeout: 20 * time.Second, Concurrent: 1}})
	now := time.Now()
	for i := range 20 {
		mustAppend(t, s.Store, "n", batch(fmt.Sprintf(`m{i="%d"}`, i), now.Add(-time.Minute), time.Second, 1, 2, 3, 4, 5))
	}
	at := serveStore(t, s.Store)
	code, body := get(t, at+"/api/v1/query", url.Values{"query": {"sum_over_time(m[5m]) + on(i) m"}})
	if code != http.StatusUnprocessableEntity && !strings.Contains(body, `"errorType":"execution"`) {
		t.Errorf("few samples allowed: got %d %s", code, body)
	}
	code, body = get(t, at+"/api/v1/query", url.Values{"query": {"m"}, "timeout": {"0.000000001"}})
	if code != http.StatusServiceUnavailable || !strings.Contains(body, `"errorType":"timeout"`) {
		t.Errorf("no time: got %d %s", code, body)
	}
	s.gate <- struct{}{} // somebody else's query
	code, body = get(t, at+"/api/v1/query", url.Values{"query": {"m"}, "timeout": {"20ms"}})
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "query timed out in query queue") {
		t.Errorf("no turn: got %d %s", code, body)
	}
	<-s.gate
	code, body = get(t, at+"/api/v1/query", url.Values{"query": {"count(m)"}, "limit": {"1"}})
	if code != http.StatusOK || !strings.Contains(body, `"20"`) {
		t.Errorf("after the limits: got %d %s", code, body)
	}
	_, body = get(t, at+"/api/v1/query", url.Values{"query": {"m"}, "limit": {"2"}})
	if !strings.Contains(body, "results truncated due to limit") || strings.Count(body, `"metric"`) != 2 {
		t.Errorf("limit 2: got %s", body)
	}
	_, body = get(t, at+"/api/v1/label/i/values", url.Values{"limit": {"3"}})
	if !strings.Contains(body, `["0","1","10"]`) {
		t.Errorf("limit 3: got %s", body)
	}
}

func TestGrafanaFindsWhatItAsksFor(t *testing.T) {
	s := start(t, Config{})
	mustAppend(t, s.Store, "n", batch("node_network_receive_bytes_total", time.Now(), 0, 1))
	at := serveStore(t, s.Store)
	for path, want := range map[string]string{
		"/api/v1/status/buildinfo": `"version":"` + promVersion + `"`,
		"/api/v1/metadata":         `{"node_network_receive_bytes_total":[{"type":"counter","help":"","unit":""}]}`,
		"/api/v1/rules":            `{"groups":[]}`,
		"/api/v1/alerts":           `{"alerts":[]}`,
	} {
		code, body := get(t, at+path, nil)
		if code != http.StatusOK || !strings.Contains(body, want) || !json.Valid([]byte(body)) {
			t.Errorf("%s: got %d %s; wanted %s", path, code, body, want)
		}
	}
}

func TestAClosedStoreAnswersUnavailable(t *testing.T) {
	s := start(t, Config{})
	at := serveStore(t, s.Store)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/query?query=m", "/api/v1/labels", "/api/v1/series?match[]=m"} {
		resp, err := http.Get(at + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: got %d; wanted 503", path, resp.StatusCode)
		}
	}
}
