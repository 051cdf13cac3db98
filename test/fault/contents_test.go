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

// TestContentsOfTheTelemetryLogAreReadAsTheStoreFindsThem damages each file of the log of a store, and compares what is said to be lost
// with what the store then lacks.
func TestContentsOfTheTelemetryLogAreReadAsTheStoreFindsThem(t *testing.T) {
	const rows, lives = 40, 3
	harms := map[string]func(raw []byte) []byte{
		"flip": func(raw []byte) []byte { n := written(raw); raw[n*3/4] ^= 8; return raw },
		"torn": func(raw []byte) []byte { n := written(raw); return raw[:n-n/13] },
	}
	for pattern, most := range map[string]int{"wal/0*": 2 * rows, "wbl/0*": rows, "chunks_head/0*": 0} {
		for what, harm := range harms {
			for n := range lives {
				t.Run(fmt.Sprint(what, pattern, n), func(t *testing.T) {
					dir := t.TempDir()
					for life := range lives { // each begins a segment
						inStore(t, dir, func(s *telemetry.Store) { fillStore(t, s, life, rows) })
					}
					files, err := filepath.Glob(filepath.Join(dir, pattern))
					if err != nil || len(files) != lives {
						t.Fatalf("there are %v, %v; wanted %d", files, err, lives)
					}
					before, whole, err := logHolds(dir)
					if err != nil || !whole || len(before.all["n1"]) != 2*rows*lives {
						t.Fatalf("the log holds %d samples, whole %v, %v; wanted %d", len(before.all["n1"]), whole, err, 2*rows*lives)
					}
					if err := edit(files[n], harm); err != nil {
						t.Fatal(err)
					}
					after, whole, err := logHolds(dir)
					lost := before.without(after)
					if err != nil || whole != (most == 0) || len(lost["n1"]) > most || (len(lost["n1"]) == 0) != (most == 0) {
						t.Errorf("lost are %d samples, whole %v, %v; wanted at most %d", len(lost["n1"]), whole, err, most)
					}
					late := pattern == "wbl/0*" // those may be in a chunk, too
					inStore(t, dir, func(s *telemetry.Store) { wantLost(t, s, before.all, lost, late) })
				})
			}
		}
	}
}

// wantLost wants a store to lack what is said to be lost, or, where some of that may be left, no more.
func wantLost(t *testing.T, s *telemetry.Store, before, lost account.Samples, some bool) {
	t.Helper()
	list, err := (&account.PromQL{Client: asked{s.Handler()}}).Samples(t.Context(), "n1", time.Now().Add(-3*time.Hour), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	left := map[float64]bool{}
	for _, one := range list {
		left[one.Value] = true
	}
	for v := range before["n1"] {
		if gone := lost.Has("n1", v); gone == left[v] && !(some && gone) {
			t.Errorf("sample %v: said to be lost %v, in the store %v", v, gone, left[v])
		}
	}
}

// fillStore puts rows on time and as many late ones into a store.
func fillStore(t *testing.T, s *telemetry.Store, life, rows int) {
	t.Helper()
	series := []string{account.SeriesName(0), "other"}
	for n := range rows {
		at, value := api.Millis(time.Now().UnixMilli()-int64(1000*(rows-n))), 2*rows*life+n
		late := api.Batch{Epoch: uint64(life + 1), Seq: uint64(n + 1), Boot: "b", T0: at - 3_600_000, TimeQuality: api.TimeSynced, Series: series,
			Rows: []api.Row{{Values: []float64{account.Value(1, 0, rows+value), 1}}}}
		live := late
		live.T0, live.Rows = at, []api.Row{{Values: []float64{account.Value(1, 0, value), 1}}}
		for _, b := range []*api.Batch{&live, &late} { // the second is out of order
			if _, err := s.Append(t.Context(), "n1", b); err != nil {
				t.Fatal(err)
			}
		}
	}
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

func TestDamageComesToEveryFileOfTheLog(t *testing.T) {
	dir := t.TempDir()
	if got := logVictim(dir, 0, 0); got != "" {
		t.Errorf("of nothing it takes %s", got)
	}
	touch := func(name string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	touch("wal/00000000")
	for kind := range 3 {
		if got, err := filepath.Rel(dir, logVictim(dir, kind, 0.9)); err != nil || got != "wal/00000000" {
			t.Errorf("of one file it takes %s, %v", got, err)
		}
	}
	for _, name := range []string{"wal/00000001", "wal/00000002", "wbl/00000000", "wbl/00000001", "chunks_head/000001"} {
		touch(name)
	}
	seen := map[string]bool{}
	for kind := range 3 {
		for at := range 1000 {
			path, err := filepath.Rel(dir, logVictim(dir, kind, float64(at)/1000))
			if err != nil {
				t.Fatal(err)
			}
			seen[path] = true
		}
	}
	if want := "[chunks_head/000001 wal/00000000 wal/00000001 wal/00000002 wbl/00000000 wbl/00000001]"; fmt.Sprint(slices.Sorted(maps.Keys(seen))) != want {
		t.Errorf("it takes %v; wanted %s", slices.Sorted(maps.Keys(seen)), want)
	}
}
