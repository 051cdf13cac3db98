package fault

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// tenScrapes is a node agent that served ten scrapes, one a second, all of which are stored; it lives since before.
func tenScrapes() *evidence {
	e := &evidence{stored: map[int][]time.Time{}, cutLog: map[float64]bool{}, took: ticks{}, row: 60}
	start := time.Unix(1764000000, 0)
	e.births = []time.Time{start.Add(-time.Minute)}
	for n := 1; n <= 10; n++ {
		at := start.Add(time.Duration(n) * time.Second)
		e.served = append(e.served, at)
		e.stored[n] = []time.Time{at.Add(-5 * time.Millisecond)}
	}
	return e
}

func (e *evidence) lose(numbers ...int) {
	for _, n := range numbers {
		delete(e.stored, n)
	}
}

// restarted has the agent begin a life after scrape n.
func (e *evidence) restarted(n int) {
	e.births = append(e.births, e.served[n-1].Add(500*time.Millisecond))
}

func TestAScrapeThatIsMissingNeedsAReasonOfItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt func(e *evidence)
		want    string // in a violation; empty: none
	}{
		"sound":                            {func(*evidence) {}, ""},
		"missing":                          {func(e *evidence) { e.lose(4) }, "4 at"},
		"of an earlier round":              {func(e *evidence) { e.lose(4); e.since = 4 }, ""},
		"twice":                            {func(e *evidence) { e.stored[4] = append(e.stored[4], e.served[4]) }, "scrape 4 is stored 2 times"},
		"the last words of a life":         {func(e *evidence) { e.lose(3, 4); e.restarted(4) }, ""},
		"more than the last words":         {func(e *evidence) { e.lose(2, 3, 4); e.restarted(4) }, "scrapes 2 at"},
		"before, with the last words kept": {func(e *evidence) { e.lose(2); e.restarted(4) }, "scrapes 2 at"},
		"the first of a life":              {func(e *evidence) { e.lose(5); e.restarted(4) }, "5 at"},
		"a short life":                     {func(e *evidence) { e.lose(4, 5); e.restarted(4); e.restarted(5) }, ""},
		"a failure in its row":             {func(e *evidence) { e.lose(4); e.failed = []time.Time{e.served[3]} }, ""},
		"a failure in another row":         {func(e *evidence) { e.lose(4); e.failed = []time.Time{e.served[6]} }, "4 at"},
		"answered after the next, of a harness that stood still": {func(e *evidence) {
			e.failed = []time.Time{e.served[3]}
			e.served[3] = e.served[4].Add(-time.Millisecond)
			e.stored[4] = e.stored[5]
			e.lose(5)
		}, ""},
		"one failure for two": {func(e *evidence) { e.lose(4, 5); e.failed = []time.Time{e.served[3]} }, "5 at"},
		"a failure by a clock that was wrong": {func(e *evidence) {
			e.lose(4)
			e.failed, e.wrong = []time.Time{e.served[6]}, true
		}, ""},
		"a failure of an earlier round, and a clock that was wrong": {func(e *evidence) {
			e.lose(4)
			e.failed, e.wrong = []time.Time{e.served[3].Add(-5 * time.Hour)}, true
			e.old = rowsAt(e.failed)
		}, "4 at"},
		"the end is missing, and failed": {func(e *evidence) { e.lose(10); e.failed = []time.Time{e.served[9]} }, ""},
		"cut out of the log":             {func(e *evidence) { e.lose(4); e.cutLog[4] = true }, ""},
		"another cut out of the log":     {func(e *evidence) { e.lose(4); e.cutLog[5] = true }, "4 at"},
		"taken from the outbox, and told": {func(e *evidence) {
			e.lose(4)
			e.took[4], e.told.outbox = true, true
		}, ""},
		"taken from the outbox, not told":       {func(e *evidence) { e.lose(4); e.took[4] = true }, "tells nothing of that"},
		"taken where nobody can see it":         {func(e *evidence) { e.lose(4); e.took[4] = false }, ""},
		"told, but not taken":                   {func(e *evidence) { e.lose(4); e.told.outbox = true }, "4 at"},
		"given up":                              {func(e *evidence) { e.lose(4, 5); e.dropped.Batches = 2 }, ""},
		"given up one less":                     {func(e *evidence) { e.lose(4, 5); e.dropped.Batches = 1 }, "it reports 1 batches"},
		"given up, but what damage took":        {func(e *evidence) { e.lose(4); e.dropped.Batches, e.told.batches = 1, 1 }, "1 batches of these as damaged"},
		"thinned out":                           {func(e *evidence) { e.lose(4); e.dropped.Downsampled = 60 }, ""},
		"thinned out, a row's worth too little": {func(e *evidence) { e.lose(4); e.dropped.Downsampled = 20 }, "20 single samples"},
	} {
		e := tenScrapes()
		c.breakIt(e)
		_, bad := e.judge("edge-1")
		if text := strings.Join(bad, "\n"); c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q; wanted %q", name, text, c.want)
		}
	}
}

func TestWhatWasGivenUpBeforeExcusesNothing(t *testing.T) {
	then := api.Dropped{Batches: 3, Samples: 180, Downsampled: 5}
	if got := since(api.Dropped{Batches: 4, Samples: 240, Downsampled: 5}, then); got != (api.Dropped{Batches: 1, Samples: 60}) {
		t.Errorf("%+v", got)
	}
	if got := since(api.Dropped{Batches: 1}, then); got != (api.Dropped{Batches: 1}) {
		t.Errorf("after counters that fell: %+v", got)
	}
}
