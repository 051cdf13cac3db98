package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

func testClock() *agent.Clock {
	start := time.Now()
	return agent.NewClock(time.Time{}, agent.ClockSource{
		Boot:   func() time.Duration { return time.Hour + time.Since(start) },
		Synced: func() bool { return true },
	})
}

func newCollector(t *testing.T, cfg Config) *Collector {
	t.Helper()
	c, err := New(cfg, testClock(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// value returns what a scrape says of a series.
func value(s Scrape, series string) (float64, bool) {
	i := slices.IndexFunc(s.Samples, func(sample Sample) bool { return sample.Series == series })
	if i < 0 {
		return 0, false
	}
	return s.Samples[i].Value, true
}

// gate is a probe that tests hold.
type gate struct {
	name string
	read func(ctx context.Context) (float64, error)
}

func (g *gate) Name() string { return g.name }

func (g *gate) Read(ctx context.Context, emit func(string, float64)) error {
	v, err := g.read(ctx)
	if err == nil {
		emit("gate_"+g.name, v)
	}
	return err
}

// only replaces the probes of c.
func only(c *Collector, slow bool, probes ...Probe) {
	c.set.units = nil
	for _, p := range probes {
		u := newUnit(p, slow, 5*time.Second)
		u.patience = c.set.patience
		c.set.units = append(c.set.units, u)
	}
}

func TestScrapeOfThisMachineHasTheFleetsBasics(t *testing.T) {
	c := newCollector(t, Config{})
	c.Self = func() []Sample { return []Sample{{"skerry_edge_outbox_bytes", 42}} }
	s, err := c.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Quality != api.TimeSynced || s.Mono < time.Hour || time.Since(s.At) > time.Minute {
		t.Errorf("scrape is stamped %s %s %s", s.At, s.Mono, s.Quality)
	}
	for _, series := range []string{"node_load1", "node_memory_MemTotal_bytes", "node_boot_time_seconds", "node_time_seconds",
		`node_cpu_seconds_total{cpu="0",mode="idle"}`, "node_procs_running", "skerry_edge_resident_memory_bytes",
		"skerry_edge_goroutines", "skerry_edge_cpu_seconds_total", "skerry_edge_outbox_bytes",
		`node_scrape_collector_success{collector="cpu"}`, `node_scrape_collector_duration_seconds{collector="filesystem"}`} {
		if _, ok := value(s, series); !ok {
			t.Errorf("no %s", series)
		}
	}
}

func TestMissedTicksAreSkippedAndThePhaseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t, Config{Interval: 10 * time.Second})
		only(c, false)
		var at []time.Time
		c.Sink = func(Scrape) {
			at = append(at, time.Now())
			if len(at) == 2 { // a sink that hangs
				<-time.After(25 * time.Second)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 75*time.Second)
		defer cancel()
		start := time.Now()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		var steps []time.Duration
		for i := range at[1:] {
			steps = append(steps, at[i+1].Sub(at[i]))
		}
		if first := at[0].Sub(start); first >= 10*time.Second {
			t.Errorf("first scrape after %s; wanted within the interval", first)
		}
		want := []time.Duration{10 * time.Second, 30 * time.Second, 10 * time.Second, 10 * time.Second}
		if !slices.Equal(steps[:4], want) {
			t.Errorf("steps %v; wanted %v: two ticks skipped, not bunched", steps, want)
		}
	})
}

func TestSlowProbeIsToldLateAndNeverDelaysTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t, Config{Interval: 10 * time.Second})
		n := 0.0
		only(c, true, &gate{"slow", func(ctx context.Context) (float64, error) {
			n++
			v := n
			select {
			case <-time.After(4 * time.Second):
				return v, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}})
		c.set.units = append(c.set.units, newUnit(&gate{"fast", func(context.Context) (float64, error) { return 7, nil }}, false, time.Second))
		var got []string
		var took []time.Duration
		for range 4 {
			start := time.Now()
			s, err := c.scrape(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(start))
			slow, _ := value(s, "gate_slow")
			fast, _ := value(s, "gate_fast")
			got = append(got, fmt.Sprint(slow, fast))
			<-time.After(10*time.Second - time.Since(start))
		}
		c.set.stop(time.Minute)
		if want := []string{"0 7", "1 7", "2 7", "3 7"}; !slices.Equal(got, want) {
			t.Errorf("slow and fast values %q; wanted %q", got, want)
		}
		if want := []time.Duration{maxPatience, 0, 0, 0}; !slices.Equal(took, want) {
			t.Errorf("scrapes took %v; wanted %v", took, want)
		}
	})
}

// TestEveryReadingOfAProbeThatWasLateIsTold has one reading come too late for its round. What is read after it comes at once, and
// must not take its place.
func TestEveryReadingOfAProbeThatWasLateIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t, Config{Interval: 10 * time.Second})
		read := 0
		only(c, true, &gate{"slow", func(context.Context) (float64, error) {
			read++
			if v := float64(read); read == 2 || read == 3 {
				<-time.After(4 * time.Second)
				return v, nil
			}
			return float64(read), nil
		}})
		c.set.units = append(c.set.units, newUnit(&gate{"fast", func(context.Context) (float64, error) { synctest.Wait(); return 7, nil }}, false, time.Second))
		var got []float64
		for range 8 {
			start := time.Now()
			s, err := c.scrape(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			slow, _ := value(s, "gate_slow")
			got = append(got, slow)
			<-time.After(10*time.Second - time.Since(start))
		}
		c.set.stop(time.Minute)
		// The second is late; the fourth is the first that is quick again, and told late for the last time.
		if want := []float64{1, 0, 2, 3, 4, 5, 6, 7}; !slices.Equal(got, want) {
			t.Errorf("told %v; wanted %v", got, want)
		}
	})
}

func TestProbeStuckBeyondItsTimeoutIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t, Config{Interval: 10 * time.Second})
		release := make(chan struct{})
		only(c, true, &gate{"stuck", func(context.Context) (float64, error) { <-release; return 1, nil }})
		var news []string
		c.OnChange = func(probe string, err error) { news = append(news, fmt.Sprint(probe, " ", err != nil)) }
		for range 5 {
			if _, err := c.scrape(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Second)
		}
		if status := c.Status(); !strings.Contains(status[0].Error, "still not done") {
			t.Errorf("status %+v; wanted it to say that the probe is stuck", status)
		}
		close(release)
		synctest.Wait()
		c.scrape(t.Context(), false)
		if want := []string{"stuck true", "stuck false"}; !slices.Equal(news, want) {
			t.Errorf("news %q; wanted %q", news, want)
		}
		c.set.stop(time.Minute)
	})
}

func TestFailingProbeStopsNoOtherAndIsNewsOnlyAtTheEdges(t *testing.T) {
	c := newCollector(t, Config{})
	var fail atomic.Bool
	broken := &gate{"broken", func(context.Context) (float64, error) {
		if fail.Load() {
			return 0, errors.New("no such luck")
		}
		return 1, nil
	}}
	panics := &gate{"panics", func(context.Context) (float64, error) { panic("index out of range") }}
	absent := &gate{"absent", func(context.Context) (float64, error) { return 0, fmt.Errorf("x: %w", ErrNoData) }}
	only(c, false, panics, absent, broken, &gate{"last", func(context.Context) (float64, error) { return 5, nil }})
	var news []string
	c.OnChange = func(probe string, err error) { news = append(news, fmt.Sprint(probe, " ", err != nil)) }
	for i := range 6 {
		fail.Store(i == 2 || i == 3)
		s, err := c.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := value(s, "gate_last"); v != 5 {
			t.Error("a failing probe took the one after it along")
		}
		up, _ := value(s, `node_scrape_collector_success{collector="broken"}`)
		if (up == 1) == fail.Load() {
			t.Errorf("success %v while failing is %v", up, fail.Load())
		}
	}
	if want := []string{"panics true", "broken true", "broken false"}; !slices.Equal(news, want) {
		t.Errorf("news %q; wanted %q", news, want)
	}
}

func TestSeriesBeyondTheLimitAreCountedAndReported(t *testing.T) {
	dir := t.TempDir()
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "many{i=\"%d\"} %d\n", i, i)
	}
	fmt.Fprintf(&text, "long{v=\"%s\"} 1\nmany{i=\"0\"} 1\nnothing NaN\n", strings.Repeat("x", api.MaxSeriesBytes))
	path := filepath.Join(dir, "metrics")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t, Config{MaxSeries: 100, Disabled: builtinNames(), User: []UserProbe{
		{Name: "a", Kind: KindFile, Path: path, Allow: []string{"many|long|nothing"}},
		{Name: "b", Kind: KindFile, Path: path, Allow: []string{"many"}}}})
	s, err := c.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Samples) != 40+2*2 {
		t.Errorf("%d samples; wanted 40 once, and two about each probe", len(s.Samples))
	}
	status := c.Status()
	if !strings.Contains(status[0].Error, "1 series dropped: name longer than 512") ||
		!strings.Contains(status[0].Error, "1 series dropped: given twice") {
		t.Errorf("probe a says %q", status[0].Error)
	}
	if !strings.Contains(status[1].Error, "41 series dropped: given twice") {
		t.Errorf("probe b says %q", status[1].Error)
	}
	if err := c.Apply(Config{MaxSeries: 16, Disabled: builtinNames(), User: []UserProbe{
		{Name: "a", Kind: KindFile, Path: path, Allow: []string{"many"}}}}); err != nil {
		t.Fatal(err)
	}
	if s, err = c.Now(t.Context()); err != nil || len(s.Samples) != 16+2 {
		t.Errorf("%d samples, %v; wanted 16 and two about the probe", len(s.Samples), err)
	}
	if status = c.Status(); !strings.Contains(status[0].Error, "at most 16") {
		t.Errorf("probe says %q", status[0].Error)
	}
	if n := c.Voids(); n != 1 {
		t.Errorf("%d samples without a value are counted; wanted one, also after a change of what is measured", n)
	}
}

func TestALargeProbeLeavesOthersTheirShare(t *testing.T) {
	dir := t.TempDir()
	var list []UserProbe
	for _, p := range []struct {
		name   string
		series int
	}{{"large", 600}, {"small", 1}, {"middle", 30}, {"huge", 700}} {
		var text strings.Builder
		for i := range p.series {
			fmt.Fprintf(&text, "%s{i=\"%d\"} 1\n", p.name, i)
		}
		path := filepath.Join(dir, p.name)
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		list = append(list, UserProbe{Name: p.name, Kind: KindFile, Path: path})
	}
	c := newCollector(t, Config{MaxSeries: 131, Disabled: builtinNames(), User: list})
	s, err := c.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, x := range s.Samples {
		name, _, _ := strings.Cut(x.Series, "{")
		got[name]++
	}
	if got["large"] != 50 || got["small"] != 1 || got["middle"] != 30 || got["huge"] != 50 {
		t.Errorf("%v; wanted all of the small ones, and half of what is left for each of the large ones", got)
	}
	if text := c.Status()[0].Error; !strings.Contains(text, "share, 50, of telemetry.max_series (131)") {
		t.Errorf("large says %q", text)
	}
	if text := c.Status()[1].Error; text != "" {
		t.Errorf("small says %q", text)
	}
}

func TestApplyChangesWhatIsMeasuredWithoutRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t, Config{Interval: time.Hour, Disabled: builtinNames()})
		scrapes := make(chan Scrape, 100)
		c.Sink = func(s Scrape) { scrapes <- s }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		<-scrapes
		without := slices.DeleteFunc(builtinNames(), func(name string) bool { return name == "loadavg" })
		if err := c.Apply(Config{Interval: time.Minute, Disabled: without, MaxSeries: 3}); err == nil {
			t.Error("applied a configuration with maxSeries 3")
		}
		if err := c.Apply(Config{Interval: time.Second, Disabled: without}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var s Scrape
		for range 3 {
			s = <-scrapes
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("three scrapes took %s after the interval became 1s", took)
		}
		if _, ok := value(s, "node_load1"); !ok || len(s.Samples) != 6 {
			t.Errorf("scrape has %d samples; wanted those of loadavg", len(s.Samples))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run after its context ended: %v", err)
		}
	})
}

func TestOwnIntervalOfAProbeIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(path, []byte("21500\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // no scrape waits in vain, however long a look at a file takes
		c := newCollector(t, Config{Interval: time.Second, Disabled: builtinNames(), User: []UserProbe{
			{Name: "room", Kind: KindFile, Path: path, Scale: 0.001, Interval: 3 * time.Second}}})
		var got []float64
		for range 7 {
			s, err := c.scrape(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			v, _ := value(s, `skerry_probe_value{probe="room"}`)
			got = append(got, v)
		}
		if want := []float64{21.5, 0, 0, 21.5, 0, 0, 21.5}; !slices.Equal(got, want) {
			t.Errorf("values %v; wanted %v", got, want)
		}
		if status := c.Status(); status[0].IntervalMillis != 3000 {
			t.Errorf("status says every %d ms; wanted 3000", status[0].IntervalMillis)
		}
		if err := c.set.stop(time.Minute); err != nil {
			t.Error(err)
		}
	})
}
