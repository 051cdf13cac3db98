package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/skerry-edge/skerry/api"
)

// running is a store that is open, with what its test may change.
type running struct {
	*Store
	stop func() error // ends Run and returns its error; once
}

func start(t testing.TB, cfg Config) *running {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	set(&cfg.Cluster, "site")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &running{Store: s, stop: sync.OnceValue(func() error { cancel(); return <-done })}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case <-s.stopped:
		t.Fatalf("run: %v", <-done)
	}
	return r
}

// batch makes one with a row per value, step apart, of one series.
func batch(series string, t0 time.Time, step time.Duration, values ...float64) *api.Batch {
	b := &api.Batch{Epoch: 1, Seq: 1, Boot: "b", T0: api.At(t0), Series: []string{series}}
	for i, v := range values {
		b.Rows = append(b.Rows, api.Row{OffsetMillis: int64(i) * step.Milliseconds(), Values: []float64{v}})
	}
	return b
}

func mustAppend(t testing.TB, s *Store, node string, b *api.Batch) uint64 {
	t.Helper()
	pos, err := s.Append(t.Context(), node, b)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return pos
}

func instant(t testing.TB, s *Store, expr string, at time.Time) []Series {
	t.Helper()
	got, err := s.Instant(t.Context(), expr, at)
	if err != nil {
		t.Fatalf("query %s: %v", expr, err)
	}
	return got
}

// scalar returns the only value of an expression.
func scalar(t testing.TB, s *Store, expr string, at time.Time) float64 {
	t.Helper()
	got := instant(t, s, expr, at)
	if len(got) != 1 || len(got[0].Points) != 1 {
		t.Fatalf("query %s: got %v; wanted one value", expr, got)
	}
	return got[0].Points[0].Value
}

func TestAppendedSamplesAnswerQueries(t *testing.T) {
	s := start(t, Config{})
	now := time.Now().Truncate(time.Second)
	mustAppend(t, s.Store, "n1", batch(`node_load1`, now.Add(-time.Minute), 10*time.Second, 1, 2, math.NaN(), 4))
	mustAppend(t, s.Store, "n2", batch(`node_filesystem_avail_bytes{mountpoint="/"}`, now, 0, 7))

	got := instant(t, s.Store, `node_load1`, now)
	if len(got) != 1 || got[0].Labels["node"] != "n1" || got[0].Labels["cluster"] != "site" || got[0].Points[0].Value != 4 {
		t.Errorf("got %v; wanted 4 of n1 in site", got)
	}
	if n := scalar(t, s.Store, `count_over_time(node_load1[5m])`, now); n != 3 {
		t.Errorf("got %v samples; wanted 3: a missing value is no sample", n)
	}
	if v := scalar(t, s.Store, `node_filesystem_avail_bytes{mountpoint="/",node="n2"}`, now); v != 7 {
		t.Errorf("got %v; wanted 7", v)
	}
	series, err := s.Range(t.Context(), `node_load1`, now.Add(-time.Minute), now, 30*time.Second)
	if err != nil || len(series) != 1 || len(series[0].Points) != 3 {
		t.Errorf("range: got %v, %v; wanted one series of three points", series, err)
	}
}

func TestANodeCannotSpeakForAnother(t *testing.T) {
	s := start(t, Config{})
	now := time.Now()
	mustAppend(t, s.Store, "bad", batch(`m{node="good",cluster="x",exported_node="y"}`, now, 0, 1))
	got := instant(t, s.Store, `m`, now)
	want := map[string]string{"__name__": "m", "node": "bad", "cluster": "site", "exported_cluster": "x",
		"exported_node": "y", "exported_exported_node": "good"}
	if len(got) != 1 || fmt.Sprint(got[0].Labels) != fmt.Sprint(want) {
		t.Errorf("got %v; wanted %v", got, want)
	}
}

func TestAMalformedSeriesIsPoisonAndHarmsNobodyElse(t *testing.T) {
	s := start(t, Config{})
	now := time.Now()
	bad := batch("ok", now, 0, 1)
	bad.Series = append(bad.Series, `m{a=1}`)
	bad.Rows[0].Values = append(bad.Rows[0].Values, 2)
	if _, err := s.Append(t.Context(), "n", bad); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v; wanted ErrMalformed", err)
	}
	if _, err := s.Append(t.Context(), "n", &api.Batch{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("empty batch: got %v; wanted ErrMalformed", err)
	}
	mustAppend(t, s.Store, "n", batch("ok", now, 0, 3))
	if v := scalar(t, s.Store, "ok", now); v != 3 {
		t.Errorf("got %v; wanted 3", v)
	}
	if n := testutil.ToFloat64(s.metrics.malformed); n != 2 {
		t.Errorf("counted %v malformed batches; wanted 2", n)
	}
}

func TestBadSamplesAreCountedByReasonAndDoNotFailTheBatch(t *testing.T) {
	s := start(t, Config{OutOfOrderWindow: time.Hour, SeriesPerNode: 2})
	now := time.Now()
	mustAppend(t, s.Store, "n", batch("m", now, 0, 1))
	mustAppend(t, s.Store, "n", batch("m", now, 0, 1)) // the same again: fine
	mustAppend(t, s.Store, "n", batch("m", now, 0, 2)) // another value
	mustAppend(t, s.Store, "n", batch("m", now.Add(-2*time.Hour), 0, 2))
	mustAppend(t, s.Store, "n", batch("m", now.Add(time.Hour), 0, 2))
	mustAppend(t, s.Store, "n", batch("m", time.UnixMilli(1), 0, 2))
	mustAppend(t, s.Store, "n", batch("m2", now, 0, 2, 3)) // twice the same instant within a commit
	mustAppend(t, s.Store, "n", batch("m3", now, 0, 2))
	want := map[Reason]uint64{ReasonDuplicate: 2, ReasonTooOld: 2, ReasonFuture: 1, ReasonSeriesLimit: 1}
	if got := s.Rejected("n"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v; wanted %v", got, want)
	}
	for reason, n := range want {
		if got := testutil.ToFloat64(s.metrics.rejected.WithLabelValues(string(reason))); got != float64(n) {
			t.Errorf("metric %s is %v; wanted %d", reason, got, n)
		}
	}
	if v := scalar(t, s.Store, "m", now.Add(time.Minute)); v != 1 {
		t.Errorf("m is %v; wanted 1, the first", v)
	}
}

func TestLateSamplesLandInTheirPlace(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	now := time.Now().Truncate(time.Second)
	mustAppend(t, s.Store, "n", batch("m", now, 0, 9))
	for day := 6; day >= 1; day-- {
		mustAppend(t, s.Store, "n", batch("m", now.AddDate(0, 0, -day), time.Minute, 1, 2, 3))
	}
	check := func(s *Store) {
		if n := scalar(t, s, `count_over_time(m[7d])`, now.Add(time.Second)); n != 19 {
			t.Errorf("got %v samples; wanted 19", n)
		}
	}
	check(s.Store)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	check(start(t, Config{Dir: dir}).Store)
}

func TestManyAppendersShareCommitsAndLoseNothing(t *testing.T) {
	s := start(t, Config{QueueBatches: 16})
	now := time.Now().Truncate(time.Second)
	const nodes, each = 64, 20
	var wg sync.WaitGroup
	for n := range nodes {
		wg.Go(func() {
			var last uint64
			for i := range each {
				pos, err := s.Append(t.Context(), fmt.Sprintf("n%d", n), batch("m", now.Add(time.Duration(i-each)*time.Second), 0, 1))
				if err != nil || pos <= last {
					t.Errorf("append: position %d after %d, %v", pos, last, err)
				}
				last = pos
			}
		})
	}
	wg.Wait()
	if n := scalar(t, s.Store, `sum(count_over_time(m[5m]))`, now); n != nodes*each {
		t.Errorf("got %v samples; wanted %d", n, nodes*each)
	}
}

func TestSyncCoversWhatWasAppended(t *testing.T) {
	s := start(t, Config{SyncInterval: time.Hour})
	var told []uint64
	moved := make(chan uint64, 16)
	s.OnSync(func(pos uint64) { moved <- pos })
	now := time.Now()
	for i := range 3 {
		pos := mustAppend(t, s.Store, "n", batch("m", now.Add(time.Duration(i)*time.Millisecond), 0, 1))
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.SyncedTo() < pos {
			t.Errorf("synced to %d after Sync; wanted %d", s.SyncedTo(), pos)
		}
		told = append(told, <-moved)
	}
	if fmt.Sprint(told) != "[1 2 3]" {
		t.Errorf("told %v; wanted [1 2 3]", told)
	}
}

func TestDeleteNodeRemovesItsSeriesOnly(t *testing.T) {
	s := start(t, Config{})
	now := time.Now()
	mustAppend(t, s.Store, "a", batch("m", now, 0, 1))
	mustAppend(t, s.Store, "b", batch("m", now, 0, 2))
	if err := s.DeleteNode(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	got := instant(t, s.Store, "m", now)
	if len(got) != 1 || got[0].Labels["node"] != "b" {
		t.Errorf("got %v; wanted b alone", got)
	}
	later := now.Add(time.Second)
	mustAppend(t, s.Store, "a", batch("m", later, 0, 3))
	if v := scalar(t, s.Store, `m{node="a"}`, later); v != 3 {
		t.Errorf("got %v from a node that came back; wanted 3", v)
	}
}

func TestAClosedStoreRefuses(t *testing.T) {
	s := start(t, Config{})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), "n", batch("m", time.Now(), 0, 1)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("append: got %v; wanted ErrUnavailable", err)
	}
	if _, err := s.Instant(t.Context(), "m", time.Now()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("query: got %v; wanted ErrUnavailable", err)
	}
}

func TestAppendWaitsForTheOpeningOnlyAsLongAsItMay(t *testing.T) {
	s, err := New(Config{Dir: t.TempDir(), Cluster: "c"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Append(ctx, "n", batch("m", time.Now(), 0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; wanted context.Canceled", err)
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	_, err := New(Config{Cluster: "Nope", Retention: -1, Remotes: []Remote{{Name: "a", URL: "ftp://x"}, {Name: "b", URL: "http://x"}, {Name: "b", URL: "http://y"}}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"dir", "cluster", "negative", "remotes[0]: url", `remotes[2]: name "b" is taken`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %q", err, want)
		}
	}
}

func TestCollectorIsConsistent(t *testing.T) {
	s := start(t, Config{})
	mustAppend(t, s.Store, "n", batch("m", time.Now(), 0, 1))
	problems, err := testutil.CollectAndLint(s.Store)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if n := testutil.CollectAndCount(s.Store, "skerry_telemetry_head_series"); n != 1 {
		t.Errorf("%d head_series; wanted 1", n)
	}
}
