package probe

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func scrapeAt(offset time.Duration, samples ...Sample) Scrape {
	return Scrape{Mono: time.Hour + offset, At: time.UnixMilli(1795480000000).Add(offset), Quality: api.TimeSynced, Samples: samples}
}

func newBatcher(t *testing.T, cfg BatchConfig) *Batcher {
	t.Helper()
	cfg.Boot = "9d1c1a7e-0000-4000-8000-000000000000"
	b, err := NewBatcher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBatchIsTheUnionOfItsScrapes(t *testing.T) {
	b := newBatcher(t, BatchConfig{Rows: 3})
	if got := b.Add(scrapeAt(0, Sample{"a", 1}, Sample{"b", 2})); got != nil {
		t.Fatalf("flushed early: %v", got)
	}
	b.Add(scrapeAt(10*time.Second, Sample{"b", 3}, Sample{"c", 4}))
	got := b.Add(scrapeAt(20*time.Second, Sample{"a", 5}))
	if len(got) != 1 {
		t.Fatalf("%d batches after three scrapes", len(got))
	}
	raw, err := json.Marshal(got[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"epoch":0,"seq":0,"prev":0,"boot":"9d1c1a7e-0000-4000-8000-000000000000","t0":1795480000000,"mono":3600000,` +
		`"timeQuality":"synced","series":["a","b","c"],"rows":[[0,1,2,null],[10000,null,3,4],[20000,5,null,null]],"historical":false}`
	if string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
	if b.Flush() != nil {
		t.Error("something is left after a full batch")
	}
}

func TestClockThatWasSetBeginsANewBatch(t *testing.T) {
	b := newBatcher(t, BatchConfig{Rows: 10})
	b.Add(scrapeAt(0, Sample{"a", 1}))
	jumped := scrapeAt(10*time.Second, Sample{"a", 2})
	jumped.At = jumped.At.Add(time.Hour)
	if got := b.Add(jumped); len(got) != 1 || got[0].T0 != 1795480000000 || len(got[0].Rows) != 1 {
		t.Errorf("after the clock was set: %v", got)
	}
	worse := jumped
	worse.Quality = api.TimeFloor
	if got := b.Add(worse); len(got) != 1 || got[0].T0 != 1795480000000+3610000 {
		t.Errorf("after the clock became doubtful: %v", got)
	}
	if got := b.Flush(); len(got) != 1 || got[0].TimeQuality != api.TimeFloor {
		t.Errorf("the rest: %v", got)
	}
}

func TestOldBatchIsFlushed(t *testing.T) {
	b := newBatcher(t, BatchConfig{Rows: 100, Age: 30 * time.Second})
	for i := range 7 {
		got := b.Add(scrapeAt(time.Duration(i)*10*time.Second, Sample{"a", 1}))
		if want := i == 3; (len(got) == 1) != want {
			t.Errorf("scrape %d: %d batches", i, len(got))
		}
	}
}

func TestNoBatchExceedsItsSizeAndNoSampleIsLost(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		limit := minBatchBytes + rng.IntN(maxBatchBytes-minBatchBytes+1)
		b := newBatcher(t, BatchConfig{Rows: 1 + rng.IntN(50), MaxBytes: limit})
		want, got := map[string]float64{}, map[string]float64{}
		take := func(batches []api.Batch) {
			for _, batch := range batches {
				batch.Epoch, batch.Seq = math.MaxUint64, math.MaxUint64
				if err := batch.Validate(); err != nil {
					t.Fatal(err)
				}
				raw, err := json.Marshal(batch)
				if err != nil {
					t.Fatal(err)
				}
				if len(raw) > limit {
					t.Fatalf("round %d: batch of %d bytes; wanted at most %d", round, len(raw), limit)
				}
				for _, r := range batch.Rows {
					for i, v := range r.Values {
						if !math.IsNaN(v) {
							got[fmt.Sprint(int64(batch.T0)+r.OffsetMillis, batch.Series[i])] = v
						}
					}
				}
			}
		}
		for i := range 30 {
			s := scrapeAt(time.Duration(i) * time.Second)
			for j := range rng.IntN(400) {
				if rng.IntN(3) == 0 {
					continue
				}
				name := fmt.Sprintf(`m%d{l="%s"}`, j, strings.Repeat([]string{"x", "<", "é", `\\`, "\u2028", "\x01"}[j%6], j%40))
				v := rng.NormFloat64() * math.Pow(10, float64(rng.IntN(30)-10))
				s.Samples = append(s.Samples, Sample{name, v})
				want[fmt.Sprint(s.At.UnixMilli(), name)] = v
			}
			take(b.Add(s))
		}
		take(b.Flush())
		if len(got) != len(want) {
			t.Fatalf("round %d: %d samples came out of %d", round, len(got), len(want))
		}
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("%s: %v became %v", k, v, got[k])
			}
		}
	}
}

func TestEveryFaultOfABatchConfigurationIsNamed(t *testing.T) {
	_, err := NewBatcher(BatchConfig{Rows: -1, Age: -1, MaxBytes: 1})
	for _, want := range []string{"boot", "rows -1", "age -1ns", "maxBytes 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; wanted it to name %s", err, want)
		}
	}
}
