package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/test/freeport"
)

// peer is Debian's Prometheus as a remote-write receiver.
type peer struct {
	t    *testing.T
	addr string
	dir  string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	if _, err := exec.LookPath("prometheus"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("prometheus is missing: apt-get install prometheus")
		}
		t.Skip("prometheus is missing: apt-get install prometheus")
	}
	p := &peer{t: t, addr: freeport.Addr(t), dir: t.TempDir()}
	config := "storage: {tsdb: {out_of_order_time_window: 7d}}\n"
	if err := os.WriteFile(filepath.Join(p.dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

func (p *peer) start() {
	p.t.Helper()
	p.cmd = exec.Command("prometheus", "--config.file="+filepath.Join(p.dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(p.dir, "data"),
		"--web.listen-address="+p.addr, "--web.enable-remote-write-receiver", "--log.level=error")
	p.cmd.Stderr = &p.out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "prometheus is ready", func() bool {
		resp, err := http.Get("http://" + p.addr + "/-/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (p *peer) stop() {
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("stop prometheus: %v", err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("prometheus: %v: %s", err, p.out.String())
	}
	p.cmd = nil
}

func (p *peer) url(path string) string { return "http://" + p.addr + path }

// eventually waits for a condition that another process or goroutine brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func get(t *testing.T, address string, form url.Values) (int, string) {
	t.Helper()
	resp, err := http.Get(address + "?" + form.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(body.String())
}

// The samples of both: nodes with gauges, counters that reset, histogram buckets, gaps, and late arrivals.
func storeSamples(t *testing.T, s *Store, now time.Time) (count int) {
	t.Helper()
	from := now.Add(-30*time.Minute + 3*time.Second) // off the steps: since 3.0 a range no longer has its left end
	for n := range 3 {
		node := fmt.Sprintf("n%d", n)
		for i := range 170 {
			if n == 2 && i > 60 && i < 120 {
				continue // offline
			}
			b := batch("", from.Add(time.Duration(i)*10*time.Second), 0)
			b.Series, b.Rows = nil, append(b.Rows, row())
			add := func(name string, v float64) {
				b.Series = append(b.Series, name)
				b.Rows[0].Values = append(b.Rows[0].Values, v)
			}
			add("node_load1", 0.1*float64((i*7+n*13)%50)+1e-7)
			add("node_big", 1.5e21*float64(n+1))
			add(`node_cpu_seconds_total{cpu="0",mode="idle"}`, float64((i%100)*9))
			add(`node_cpu_seconds_total{cpu="0",mode="user"}`, float64((i%100))*1.25)
			add(`node_filesystem_avail_bytes{mountpoint="/a \"b\" <ü>"}`, 1e9-float64(i)*12345.678)
			for _, le := range []string{"0.1", "1", "+Inf"} {
				add(`req_seconds_bucket{le="`+le+`"}`, float64(i*len(le)))
			}
			count += len(b.Series)
			mustAppend(t, s, node, b)
		}
	}
	mustAppend(t, s, "n0", batch("late", now, 0, 1))
	mustAppend(t, s, "n0", batch("late", from, 10*time.Second, 1, 2, 3, 4))
	return count + 5
}

func TestPeerPromQLAnswersMatchPrometheus(t *testing.T) {
	p := newPeer(t)
	p.start()
	s := start(t, Config{Remotes: []Remote{{Name: "peer", URL: p.url("/api/v1/write")}}})
	now := time.Now().Truncate(time.Minute)
	count := storeSamples(t, s.Store, now)
	eventually(t, "all samples arrive", func() bool { return sent(s) == count })

	ours := serveStore(t, s.Store)
	at := fmt.Sprintf("%d.5", now.Unix())
	past := fmt.Sprintf("%d.123", now.Add(-5*time.Minute).Unix())
	for _, q := range []string{
		`node_load1`, `node_load1{node="n1"}`, `node_load1{node=~"n[01]"}`, `sum(node_load1)`, `avg by (node) (node_load1)`,
		`rate(node_cpu_seconds_total[5m])`, `increase(node_cpu_seconds_total{mode="user"}[17m])`, `irate(node_cpu_seconds_total[1m])`,
		`100 - avg by (node) (rate(node_cpu_seconds_total{mode="idle"}[5m])) * 100`, `topk(2, node_load1)`, `node_load1 > 2`, `1/0`,
		`-1/0`, `0/0`, `node_big`, `node_load1 * 1e-9`, `"text"`, `42`, `1e30`, `-1e-9`, `vector(1e-9)`, `vector(1.5)`, `time()`, `count_over_time(node_load1[10m])`,
		`histogram_quantile(0.9, rate(req_seconds_bucket[5m]))`, `quantile_over_time(0.5, node_load1[10m])`, `late`, `late offset 25m`,
		`max_over_time(late[1h])`, `absent(nothing)`, `nothing`, `label_replace(node_load1, "a", "$1", "node", "n(.)")`,
		`node_load1[1m]`, `avg_over_time(rate(node_cpu_seconds_total[2m])[10m:1m])`, `node_load1 @ ` + past, `changes(node_load1[5m])`,
		`node_load1 and on (node) node_filesystem_avail_bytes`, `deriv(node_filesystem_avail_bytes[10m])`, `count by (le) (req_seconds_bucket)`,
		`predict_linear(node_filesystem_avail_bytes[10m], 3600)`, `stddev(node_load1)`, `sort_desc(node_load1)`, `scalar(late)`, `bool`,
	} {
		for _, when := range []string{at, past} {
			same(t, ours, p, "/api/v1/query", url.Values{"query": {q}, "time": {when}})
		}
		same(t, ours, p, "/api/v1/query_range", url.Values{"query": {q}, "start": {past}, "end": {at}, "step": {"37"}})
	}
	span := url.Values{"start": {fmt.Sprint(now.Add(-time.Hour).Unix())}, "end": {at}}
	with := func(kv ...string) url.Values {
		v := url.Values{}
		for k, x := range span {
			v[k] = x
		}
		for i := 0; i < len(kv); i += 2 {
			v.Add(kv[i], kv[i+1])
		}
		return v
	}
	same(t, ours, p, "/api/v1/labels", with())
	same(t, ours, p, "/api/v1/labels", with("match[]", "late"))
	same(t, ours, p, "/api/v1/labels", with("match[]", "late", "match[]", "node_cpu_seconds_total"))
	same(t, ours, p, "/api/v1/label/node/values", with())
	same(t, ours, p, "/api/v1/label/__name__/values", with("match[]", `{node="n0"}`))
	same(t, ours, p, "/api/v1/label/nothing/values", with())
	same(t, ours, p, "/api/v1/label/node/values", with("match[]", "{"))
	same(t, ours, p, "/api/v1/series", with("match[]", `{node="n1"}`, "match[]", "late"))
	same(t, ours, p, "/api/v1/series", with("match[]", `nothing`))
	same(t, ours, p, "/api/v1/series", with())
	same(t, ours, p, "/api/v1/query_exemplars", with("query", "late"))
	same(t, ours, p, "/api/v1/format_query", url.Values{"query": {"sum(a)by(b)"}})
	for _, bad := range []url.Values{
		{"query": {"up"}, "time": {"soon"}}, {"query": {"up"}, "timeout": {"long"}},
		{"query": {"node_load1 + on (node) group_left req_seconds_bucket"}, "time": {at}},
		{"query": {"node_load1 * on (cluster) node_load1"}, "time": {at}},
	} {
		same(t, ours, p, "/api/v1/query", bad)
	}
	for _, bad := range []url.Values{
		{"query": {"up"}, "start": {"x"}}, {"query": {"up"}, "start": {"2"}, "end": {"1"}, "step": {"1"}},
		{"query": {"up"}, "start": {"1"}, "end": {"2"}, "step": {"0"}}, {"query": {"up"}, "start": {"1"}, "end": {"2"}, "step": {"-1h"}},
		{"query": {"up"}, "start": {"1"}, "end": {"20000"}, "step": {"1"}}, {"query": {"up[1m]"}, "start": {"1"}, "end": {"2"}, "step": {"1"}},
	} {
		same(t, ours, p, "/api/v1/query_range", bad)
	}
}

// same asks both and compares the answers to the byte, save for the order of a list that has none, the last digits of a
// sum, and words that changed between the peer's release and ours.
func same(t *testing.T, ours string, p *peer, path string, form url.Values) {
	t.Helper()
	code, got := get(t, ours+path, form)
	wantCode, want := get(t, p.url(path), form)
	if code != wantCode || canonical(t, got) != canonical(t, want) {
		t.Errorf("%s?%s\n got %d %.600s\nwant %d %.600s", path, form.Encode(), code, got, wantCode, want)
	}
}
