package probe

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readUser reads a user probe once.
func readUser(t *testing.T, u UserProbe) ([]string, error) {
	t.Helper()
	cfg := Config{User: []UserProbe{u}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	u = cfg.withDefaults().User[0]
	p, err := newUser(u, 100)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), u.Timeout)
	defer cancel()
	var got []string
	err = p.Read(ctx, func(s string, v float64) { got = append(got, fmt.Sprint(s, " ", v)) })
	return got, err
}

// shell is a script run as argv; only tests have a shell.
func shell(name, script string) UserProbe {
	return UserProbe{Name: name, Kind: KindExec, Argv: []string{"/bin/sh", "-c", script}, Timeout: time.Minute}
}

func TestExecReadsNumbersLinesAndText(t *testing.T) {
	scaled := shell("scaled", "echo 1500")
	scaled.Scale, scaled.Metric = 0.001, `water_level_metres{tank="a"}`
	filtered := shell("filtered", "printf 'a_total 1\\nb 2\\n'")
	filtered.Allow = []string{"a_.*"}
	for _, c := range []struct {
		probe UserProbe
		want  []string
		err   string
	}{
		{shell("n", "echo '  42.5 '"), []string{`skerry_probe_value{probe="n"} 42.5`}, ""},
		{scaled, []string{`water_level_metres{tank="a"} 1.5`}, ""},
		{shell("l", "printf 'x 1\\n# a comment\\n\\ny{b=\"2\",a=\"1\"} 2 1700000000000'"), []string{"x 1", `y{a="1",b="2"} 2`}, ""},
		{filtered, []string{"a_total 1"}, ""},
		{shell("e", "true"), nil, "output is empty"},
		{shell("w", "echo hello"), nil, "line 1: \"hello\": wanted a value"},
		{shell("x", "echo broken pipe >&2; exit 3"), nil, `exit status 3: "broken pipe"`},
		{shell("big", "head -c 70000 /dev/zero; while :; do :; done"), nil, "output exceeds 65536 bytes"},
		{UserProbe{Name: "none", Kind: KindExec, Argv: []string{"/nonexistent/program"}}, nil, "no such file"},
	} {
		got, err := readUser(t, c.probe)
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %q, error %v; wanted %q, error with %q", c.probe.Name, got, err, c.want, c.err)
		}
	}
}

func TestExecSeesNothingOfTheAgentsEnvironment(t *testing.T) {
	t.Setenv("SKERRY_EDGE_JOIN", "secret")
	out := filepath.Join(t.TempDir(), "env")
	if _, err := readUser(t, shell("env", "env | sort > "+out+"; pwd >> "+out+"; echo 1")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(got)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		if !slices.Contains([]string{"PATH", "HOME", "LANG", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_", "/"}, name) {
			t.Errorf("the program sees %q", line)
		}
	}
}

// gone waits until the process in a pid file has ended; a zombie counts as running, as nobody but us would reap it.
func gone(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if syscall.Kill(pid, 0) == syscall.ESRCH || err != nil {
			return
		}
		// An orphan that the init of a container does not reap is dead all the same, unless it is our own child.
		if f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):])); f[1] == "Z" && f[2] != strconv.Itoa(os.Getpid()) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("process %d of %s still there: %s", pid, file, stat)
		case <-tick.C:
		}
	}
}

func TestTimeoutKillsTheWholeProcessGroup(t *testing.T) {
	dir := t.TempDir()
	u := shell("hang", fmt.Sprintf("trap '' TERM; echo $$ > %[1]s/parent; (trap '' TERM; echo start; while :; do sleep 60; done) & "+
		"echo $! > %[1]s/child; wait", dir))
	begun := func(name string) bool {
		info, err := os.Stat(filepath.Join(dir, name))
		return err == nil && info.Size() > 0
	}
	// A reading that came back without having killed them would never come back: they end by nothing else.
	for u.Timeout = 300 * time.Millisecond; ; u.Timeout *= 10 {
		if _, err := readUser(t, u); err == nil || !strings.Contains(err.Error(), "not done within its timeout") {
			t.Fatalf("error %v; wanted it to name the timeout", err)
		}
		if begun("parent") && begun("child") || u.Timeout > 10*time.Second { // a busy machine may take longer until they have
			break
		}
	}
	gone(t, dir+"/parent")
	gone(t, dir+"/child")
}

func TestWhatAnExecProbeLeavesBehindIsKilled(t *testing.T) {
	dir := t.TempDir()
	got, err := readUser(t, shell("daemon", fmt.Sprintf("sleep 60 & echo $! > %s/child; echo 7", dir)))
	if err != nil || len(got) != 1 {
		t.Fatalf("got %q, %v; a background child that holds the pipe must not delay the value", got, err)
	}
	gone(t, dir+"/child")
}

func TestHangingExecDelaysNobody(t *testing.T) {
	hang := shell("hang", "while :; do sleep 60; done")
	c := newCollector(t, Config{Interval: time.Second, User: []UserProbe{hang, shell("quick", "echo 1")}})
	scrapes := make(chan Scrape, 64)
	c.Sink = func(s Scrape) { scrapes <- s }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for i, quick := 0, 0; quick < 3; i++ { // on a busy machine a shell takes longer than a scrape waits
		select {
		case s := <-scrapes:
			if _, ok := value(s, `skerry_probe_value{probe="quick"}`); ok {
				quick++
			}
			if _, ok := value(s, "node_load1"); !ok {
				t.Errorf("scrape %d lacks the load", i)
			}
			if i > 60 {
				t.Fatalf("the probe beside the hanging one gave %d values in %d scrapes", quick, i)
			}
		case <-time.After(hang.Timeout / 2):
			t.Fatalf("no scrape %d", i)
		}
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(hang.Timeout / 2):
		t.Fatal("Run did not end while a program hangs")
	}
}

func TestFileProbeReadsValuesAndRefusesDevices(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/text", []byte("# TYPE a gauge\na{b=\"c\"} 1\nd 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/big", make([]byte, maxUserOutput+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readUser(t, UserProbe{Name: "f", Kind: KindFile, Path: dir + "/text"})
	if want := []string{`a{b="c"} 1`, "d 2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; wanted %q", got, err, want)
	}
	for path, want := range map[string]string{dir + "/pipe": "pipe: it is no regular file, but a", "/dev/zero": "zero: it is no regular file, but a",
		dir + "/big": "longer than 65536 bytes", dir + "/none": "no such file"} {
		if _, err := readUser(t, UserProbe{Name: "f", Kind: KindFile, Path: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; wanted %q", path, err, want)
		}
	}
}

func TestScraperStaysOnThisMachineAndWithinItsLimits(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# HELP a b\n# TYPE app_requests_total counter\napp_requests_total{code=\"200\"} 3\ngo_goroutines 5\n")
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/metrics", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for line := []byte(strings.Repeat("# "+strings.Repeat("x", 1000)+"\n", 64)); ; {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/html", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })
	server := httptest.NewServer(mux)
	defer server.Close()
	probe := func(url string) UserProbe {
		return UserProbe{Name: "app", Kind: KindPrometheus, URL: url, Allow: []string{"app_.*"}, Timeout: time.Minute}
	}
	got, err := readUser(t, probe(server.URL+"/metrics"))
	if want := []string{`app_requests_total{code="200"} 3`}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; wanted %q", got, err, want)
	}
	for path, want := range map[string]string{"/away": "redirected", "/endless": "longer than", "/hang": "deadline exceeded",
		"/none": "404", "/html": "wanted a metric name"} {
		p := probe(server.URL + path)
		if path == "/hang" {
			p.Timeout = time.Second
		}
		if _, err := readUser(t, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; wanted %q", path, err, want)
		}
	}
	// A name that passed as local is checked again when it is dialled.
	u := Config{User: []UserProbe{probe(server.URL)}}.withDefaults().User[0]
	u.URL = "http://192.0.2.1/metrics"
	away, err := newScraper(u, reading{most: 1})
	if err != nil {
		t.Fatal(err)
	}
	err = away.Read(t.Context(), func(string, float64) {})
	if err == nil || !strings.Contains(err.Error(), "not on this machine") {
		t.Errorf("foreign address: %v", err)
	}
}

func TestTextParserIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		"a":                        "wanted a value",
		"1a 1":                     "wanted a metric name",
		"a{b=\"c\"":                "wanted , or }",
		"a{b=\"c} 1":               "does not end",
		"a{b=c} 1":                 `wanted a value in ""`,
		"a{b} 1":                   "wanted = after it",
		"a{b=\"c\" d=\"e\"} 1":     "wanted , or }",
		"a{b=\"c\",b=\"d\"} 1":     "given twice",
		"a{__name__=\"b\"} 1":      "__name__",
		"a{b=\"\\x\"} 1":           "escape",
		"a{b=\"\xff\"} 1":          "UTF-8",
		"a{:=\"x\"} 1":             "label name",
		"a 1 2 3":                  "wanted the end of the line",
		"a 1 1.5":                  "timestamp",
		"a 0x10":                   "wanted a number",
		"a 1_000":                  "wanted a number",
		"ok 1\n\na one":            "line 3",
		"# TYPE a thing":           "TYPE",
		"# TYPE 9 gauge":           "metric name",
		"# TYPE a gauge x":         "end of the line",
		strings.Repeat("x", 9<<10): "longer than",
	} {
		var p textParser
		err := p.parse(strings.NewReader(text), func(*point) {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v; wanted %q", text, err, want)
		}
	}
}

// A row of a batch has one time: that of its scrape (docs/operations.md).
func TestATimestampInAScrapeIsNotUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics")
	if err := os.WriteFile(path, []byte("old_metric 5 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t, Config{Disabled: builtinNames(), User: []UserProbe{{Name: "old", Kind: KindFile, Path: path}}})
	s, err := c.Now(t.Context())
	if err != nil || len(s.Samples) == 0 || s.Samples[0] != (Sample{"old_metric", 5}) || time.Since(s.At) > time.Minute {
		t.Errorf("%+v, %v; wanted the value, as of now", s, err)
	}
}
