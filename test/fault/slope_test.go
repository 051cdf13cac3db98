package fault

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

func TestALineFitsItsPoints(t *testing.T) {
	var xs, ys []float64
	for i := range 100 {
		xs, ys = append(xs, float64(i)), append(ys, 7+3*float64(i)+rand.Float64()/10)
	}
	if got := fit(xs, ys); got < 2.99 || got > 3.01 {
		t.Errorf("slope %v; wanted 3", got)
	}
	if got := fit(xs[:1], ys[:1]); got != 0 {
		t.Errorf("slope of one point %v", got)
	}
}

func TestGrowthIsToldFromNoise(t *testing.T) {
	hours := []float64{1, 2, 3, 4, 5, 6, 7, 8}
	for what, c := range map[string]struct {
		ys   []float64
		want string
	}{
		"a leak":              {[]float64{50, 53, 55, 58, 62, 64, 67, 71}, "grows"},
		"noise":               {[]float64{50, 58, 49, 60, 52, 57, 51, 56}, "steady"},
		"sure and tiny":       {[]float64{50, 50.1, 50.2, 50.3, 50.4, 50.5, 50.6, 50.7}, "steady"},
		"shrinks":             {[]float64{70, 66, 63, 60, 57, 54, 50, 46}, "steady"},
		"does not move":       {[]float64{9, 9, 9, 9, 9, 9, 9, 9}, "steady"},
		"a start, and no end": {[]float64{50, 60, 70}, "too few rounds"},
	} {
		if got := judge(hours[:len(c.ys)], c.ys); got != c.want {
			t.Errorf("%s: %s; wanted %s", what, got, c.want)
		}
	}
}

// soakOf are outcomes of a soak: how large the cluster agent was, in MiB, after each round of so many hours, how many series the
// head had, and what was on the heap.
func soakOf(roundHours float64, mib []float64, head, heap func(round int) float64) (all []*Outcome) {
	for i, m := range mib {
		all = append(all, &Outcome{Seed: uint64(i), Seconds: roundHours * 3600, Violations: []string{}, After: map[string]Gauge{
			tierCluster: {RSSBytes: int64(m * (1 << 20)), HeapBytes: heap(i) * (1 << 20), Goroutines: 120, HeadSeries: head(i)},
			tierEdge1:   {RSSBytes: 12 << 20, Goroutines: 36},
		}})
	}
	return all
}

// hourOfSoak is what the cluster agent had, in MiB, after each round of a soak of 2026-11-27 with 30 new nodes a round.
var hourOfSoak = []float64{67, 65, 67, 64, 69, 69, 76, 78, 72, 73, 74, 72, 74, 75, 75, 83, 79, 83, 86, 88, 80, 83, 82, 85, 90, 83, 84, 86, 82, 89, 89, 89, 89, 90, 93,
	94, 94, 95, 95, 96, 102, 97, 101, 102, 102, 104, 106, 116, 104, 111, 120, 115, 116, 115, 117, 124, 128, 119, 130, 121, 120, 129, 137, 124, 124, 127, 129, 133,
	136, 132, 134, 134}

// calmHeap is a heap of which each series in the head takes what it takes.
func calmHeap(round int) float64 { return 9 + 150*float64(round)*1.6/1024 }

// perRound is how many series the nodes of a round leave in the head.
func perRound(round int) float64 { return 150 + 150*float64(round) }

func TestTheHeadOfTheStoreExcusesItsOwnGrowthAlone(t *testing.T) {
	plus := func(perRound float64) (out []float64) {
		for i, m := range hourOfSoak {
			out = append(out, m+perRound*float64(i))
		}
		return out
	}
	same, still := func(int) float64 { return 150 }, func(int) float64 { return 9 }
	window := func(round int) float64 { return 150 + 150*float64(min(round, 30)) } // in rounds of six minutes: full after three hours
	long := func(perHourAfter float64) (out []float64) {
		for i := range 80 {
			m := 70 + window(i)*6/1024 + float64(i%3)
			if i > 30 {
				m += perHourAfter * float64(i-30) / 10
			}
			out = append(out, m)
		}
		return out
	}
	for what, c := range map[string]struct {
		all  []*Outcome
		want string
	}{
		"an hour with new nodes":                        {soakOf(1.0/72, hourOfSoak, perRound, calmHeap), "steady, steady"},
		"the same, with no new series":                  {soakOf(1.0/72, hourOfSoak, same, still), "grows, steady"},
		"new nodes, and a leak beside them":             {soakOf(1.0/72, plus(0.4), perRound, calmHeap), "grows, steady"},
		"new nodes, and a leak of 7 MiB on the heap":    {soakOf(1.0/72, hourOfSoak, perRound, func(i int) float64 { return calmHeap(i) + float64(i)/10 }), "steady, grows"},
		"eight hours, of which the head fills three":    {soakOf(0.1, long(0), window, still), "steady, steady"},
		"a leak that shows once the head is full":       {soakOf(0.1, long(6), window, still), "grows, steady"},
		"a head that grows beyond its window":           {soakOf(0.1, long(8), perRound, still), "grows, steady"},
		"memory that grows where nobody knows the head": {soakOf(1.0/72, hourOfSoak, func(int) float64 { return 0 }, still), "grows, steady"},
	} {
		var verdicts []string
		for _, l := range slopes(c.all) {
			if l.Process == tierCluster && (strings.HasPrefix(l.Figure, "RSS") || strings.HasPrefix(l.Figure, "heap")) && l.Verdict != "-" {
				verdicts = append(verdicts, l.Verdict)
			}
		}
		if got := strings.Join(verdicts, ", "); got != c.want {
			t.Errorf("%s: RSS and heap: %s; wanted %s", what, got, c.want)
		}
	}
}

func TestASoakThatGrowsFails(t *testing.T) {
	leak := soakOf(1.0/72, hourOfSoak, func(int) float64 { return 150 }, calmHeap)
	for what, c := range map[string]struct {
		all   []*Outcome
		hours float64
		want  bool
	}{
		"sane":                  {soakOf(1.0/72, hourOfSoak, perRound, calmHeap), 1, true},
		"grows":                 {leak, 1, false},
		"seeds, each by itself": {leak, 0, true},
	} {
		var out bytes.Buffer
		door := &Door{Out: &out, Err: &out}
		f := door.flags()
		f.hours, f.dir = c.hours, t.TempDir()
		if ok := door.tell(f, &Job{Dir: filepath.Join(f.dir, "seed-1")}, c.all, nil); ok != c.want {
			t.Errorf("%s: passes %v; wanted %v\n%s", what, ok, c.want, out.String())
		}
		if told := strings.Contains(out.String(), "cluster grows: RSS MiB without the head from 67.0 to 134.0"); told == c.want {
			t.Errorf("%s: growth told %v:\n%s", what, told, out.String())
		}
	}
}
