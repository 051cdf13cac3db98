package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/telemetry"
	"github.com/skerry-edge/skerry/edge/outbox"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// nowhere is a way out that takes nothing.
type nowhere struct{}

func (nowhere) Send(_ context.Context, _ mqtt.Kind, _ any, done func(error)) { done(io.ErrClosedPipe) }

// tickBatch is a batch with one scrape.
func tickBatch(n int) *api.Batch {
	return &api.Batch{T0: api.Millis(1764000000000 + 1000*n), TimeQuality: api.TimeSynced, Series: []string{"other", tickSeries},
		Rows: []api.Row{{Values: []float64{0.5, float64(n)}}}}
}

// TestContentsOfAnOutboxAreReadAsItWroteThem has an outbox of the product write both of its files.
func TestContentsOfAnOutboxAreReadAsItWroteThem(t *testing.T) {
	dir := t.TempDir()
	cfg := outbox.Config{Dir: filepath.Join(dir, "state"), RuntimeDir: filepath.Join(dir, "run"), Epoch: 1, Boot: "b", Clock: agent.NewClock(time.Time{}, agent.ClockSource{}),
		Sender: nowhere{}, Log: slog.New(slog.DiscardHandler)}
	fill := func(from int) *outbox.Outbox {
		o, err := outbox.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for n := from; n < from+5; n++ {
			if err := o.PutBatch(tickBatch(n)); err != nil {
				t.Fatal(err)
			}
		}
		return o
	}
	if err := fill(1).Close(); err != nil {
		t.Fatal(err)
	}
	c, err := look(tierEdge1, filepath.Join(cfg.Dir, "outbox.db"), false)
	if got := slices.Sorted(maps.Keys(c.ticks)); err != nil || fmt.Sprint(got) != "[1 2 3 4 5]" {
		t.Errorf("outbox.db holds %v, %v; wanted 1 to 5", got, err)
	}
	if c, err := look(tierEdge1, filepath.Join(cfg.Dir, "outbox.db"), true); err != nil || len(c.ticks) > 0 || len(c.raw) == 0 || c.whole {
		t.Errorf("a damaged outbox.db holds %v, %d bytes, %v, %v; wanted its bytes alone", c.ticks, len(c.raw), c.whole, err)
	}
	cfg.Epoch = 2
	o := fill(6)
	t.Cleanup(func() { _ = o.Close() })
	path := filepath.Join(cfg.RuntimeDir, "outbox.hot")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		harm  func(raw []byte) []byte
		want  string
		whole bool
	}{
		"sound":      {func(raw []byte) []byte { return raw }, "[6 7 8 9 10]", true},
		"torn":       {func(raw []byte) []byte { return raw[:len(raw)-10] }, "[6 7 8 9]", false},
		"bit in one": {func(raw []byte) []byte { raw[len(raw)-10] ^= 4; return raw }, "[6 7 8 9]", false},
		"no header":  {func(raw []byte) []byte { return append([]byte("SK"), raw...) }, "[6 7 8 9 10]", false},
	} {
		got, whole := hotHolds(c.harm(slices.Clone(raw)))
		if list := slices.Sorted(maps.Keys(got)); fmt.Sprint(list) != c.want || whole != c.whole {
			t.Errorf("%s: outbox.hot holds %v, whole %v; wanted %s, %v", what, list, whole, c.want, c.whole)
		}
	}
}

// TestContentsOfTheTelemetryLogAreReadAsTheStoreFindsThem damages the log of a store, and compares what is said to be lost
// with what the store then lacks.
func TestContentsOfTheTelemetryLogAreReadAsTheStoreFindsThem(t *testing.T) {
	dir := t.TempDir()
	const rows = 40
	series := []string{account.SeriesName(0), "other"}
	inStore(t, dir, func(s *telemetry.Store) {
		for n := range rows {
			at := api.Millis(time.Now().UnixMilli() - int64(1000*(rows-n)))
			late := api.Batch{Epoch: 1, Seq: uint64(n + 1), Boot: "b", T0: at - 3_600_000, TimeQuality: api.TimeSynced, Series: series,
				Rows: []api.Row{{Values: []float64{account.Value(1, 0, rows+n), 1}}}}
			live := late
			live.T0, live.Rows = at, []api.Row{{Values: []float64{account.Value(1, 0, n), 1}}}
			for _, b := range []*api.Batch{&live, &late} { // the second is out of order
				if _, err := s.Append(t.Context(), "n1", b); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	before, whole, err := logHolds(dir)
	if err != nil || !whole || len(before["n1"]) != 2*rows {
		t.Fatalf("the log holds %d samples, whole %v, %v; wanted %d", len(before["n1"]), whole, err, 2*rows)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "0*"))
	if err != nil || len(segments) == 0 {
		t.Fatal(err)
	}
	if err := edit(segments[len(segments)-1], func(raw []byte) []byte { n := written(raw); raw[n*3/4] ^= 8; return raw }); err != nil {
		t.Fatal(err)
	}
	after, whole, err := logHolds(dir)
	lost := before.Without(after)
	if err != nil || whole || len(lost["n1"]) == 0 || len(lost["n1"]) > rows/2 {
		t.Fatalf("lost are %d samples, whole %v, %v; wanted about a quarter of %d", len(lost["n1"]), whole, err, rows)
	}
	inStore(t, dir, func(s *telemetry.Store) {
		list, err := (&account.PromQL{Client: asked{s.Handler()}}).Samples(t.Context(), "n1", time.Now().Add(-2*time.Hour), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		left := map[float64]bool{}
		for _, one := range list {
			left[one.Value] = true
		}
		for v := range before["n1"] {
			if lost.Has("n1", v) == left[v] {
				t.Errorf("sample %v: said to be lost %v, in the store %v", v, lost.Has("n1", v), left[v])
			}
		}
	})
}

// inStore runs use on a store that is open in dir.
func inStore(t *testing.T, dir string, use func(s *telemetry.Store)) {
	t.Helper()
	s, err := telemetry.New(telemetry.Config{Dir: dir, Cluster: "c", ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
		use(s)
	case err := <-ended:
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// asked is a Getter on a store's own HTTP paths.
type asked struct{ h http.Handler }

func (a asked) Get(ctx context.Context, path string, out any) error {
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
	return json.Unmarshal(w.Body.Bytes(), out)
}
