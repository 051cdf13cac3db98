package probe

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

func TestEveryFaultOfAConfigurationIsNamed(t *testing.T) {
	err := Config{Proc: "proc", Interval: time.Nanosecond, MaxSeries: 3, MaxCPUs: -1, Disabled: []string{"load"},
		IgnoreDisks: "(", User: []UserProbe{
			{Name: "Bad Name", Kind: "shell"},
			{Name: "cpu", Kind: KindExec, Argv: []string{"relative"}, Timeout: time.Hour, Metric: "no spaces please"},
			{Name: "f", Kind: KindFile, Path: "x", URL: "http://localhost/"},
			{Name: "f", Kind: KindPrometheus, URL: "http://example.org/metrics", Scale: 2, Allow: []string{"["}},
			{Name: "ok", Kind: KindPrometheus, URL: "http://[::1]:9100/metrics"},
		}}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`proc "proc"`, "interval 1ns: wanted 100ms to 24h", "max_series 3: wanted 16 to 4096", "max_cpus -1",
		`disabled[0] "load": wanted one of self, time`, `ignore_disks "("`, `user[0].name "Bad Name"`, `user[0].kind "shell"`,
		`user[1].argv ["relative"]`, "user[1].timeout 1h0m0s", `user[1].metric "no spaces please"`,
		`user[1].name "cpu": wanted one that no other probe has`, `user[2].path "x"`, `user[2].url "http://localhost/": wanted it only with kind prometheus`,
		`user[3].url "http://example.org/metrics": wanted host localhost`, "user[3].scale 2", `user[3].allow[0] "["`,
		`user[3].name "f": wanted one`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no fault says %s", want)
		}
	}
	if strings.Contains(err.Error(), "user[4]") {
		t.Error("the good probe is blamed")
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero configuration: %v", err)
	}
}

func BenchmarkScrape(b *testing.B) {
	c, err := New(Config{}, agent.NewClock(time.Time{}, agent.ClockSource{}), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	samples := 0
	for b.Loop() {
		s, err := c.scrape(b.Context(), false)
		if err != nil {
			b.Fatal(err)
		}
		samples = len(s.Samples)
	}
	b.ReportMetric(float64(samples), "samples")
}
