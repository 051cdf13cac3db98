package fault

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Slope is how a figure of a process moves from round to round.
type Slope struct {
	Process string  `json:"process"`
	Figure  string  `json:"figure"`
	First   float64 `json:"first"`
	Last    float64 `json:"last"`
	PerHour float64 `json:"perHour"` // least squares
	Verdict string  `json:"verdict"` // of memory and goroutines: steady, grows, or too few rounds to tell
}

// figure is something that is judged of a process.
type figure struct {
	name    string
	of      func(Gauge) float64
	judged  bool
	perHead float64 // what each series in the head of the telemetry's store may add
}

// The telemetry's store keeps the series of a node that was removed in its head until the block of those hours is written. That is
// the one growth that a soak, which has new nodes in every round, excuses: so much for each series that the largest head of the first
// hours has more than the first. Alone, the store has 1.3 KiB on the heap for each, and a site in a soak 1.6. An hour of 2026-11-27
// had 6.7 KiB more RSS for each: the collector's room, and pages of files, which in a soak are memory too. After those hours nothing
// is excused, and they are judged by themselves too.
const (
	headHeapMiB = 2.0 / 1024
	headRSSMiB  = 8.0 / 1024
	headWindow  = 3 * time.Hour // the head of a block of two hours spans at most one and a half of them
)

// figures are those of every process. A disk fills by design, up to a limit.
func figures() []figure {
	return []figure{
		{"RSS MiB", func(g Gauge) float64 { return float64(g.RSSBytes) / (1 << 20) }, true, headRSSMiB},
		{"heap MiB", func(g Gauge) float64 { return g.HeapBytes / (1 << 20) }, true, headHeapMiB},
		{"goroutines", func(g Gauge) float64 { return g.Goroutines }, true, 0},
		{"disk MiB", func(g Gauge) float64 { return float64(g.DiskBytes) / (1 << 20) }, false, 0},
		{"head series", func(g Gauge) float64 { return g.HeadSeries }, false, 0},
	}
}

// withoutHead is added to the name of a figure.
const (
	withoutHead = " without the head"
	growing     = "grows"
)

// course is what a figure came to after each round.
type course struct {
	hours, values []float64
	heads         []float64 // series in the head, of the cluster agent
}

func courseOf(all []*Outcome, process string, of func(Gauge) float64) (c course) {
	hours := 0.0
	for _, o := range all {
		hours += o.Seconds / 3600
		if g, ok := o.After[process]; ok && of(g) > 0 {
			c.hours, c.values, c.heads = append(c.hours, hours), append(c.values, of(g)), append(c.heads, g.HeadSeries)
		}
	}
	return c
}

// headless is the memory that there would be had the head not grown.
func (c course) headless(perHead float64) course {
	out := course{hours: c.hours, heads: c.heads}
	peak := c.heads[0]
	for i, v := range c.values {
		if c.hours[i] <= headWindow.Hours() {
			peak = max(peak, c.heads[i])
		}
		out.values = append(out.values, v-perHead*(peak-c.heads[0]))
	}
	return out
}

// late are the rounds after the head's window.
func (c course) late() course {
	i := 0
	for i < len(c.hours) && c.hours[i] <= headWindow.Hours() {
		i++
	}
	return course{hours: c.hours[i:], values: c.values[i:], heads: c.heads[i:]}
}

// slopes fits a line through what each process came to after each round.
func slopes(all []*Outcome) (out []Slope) {
	processes := map[string]bool{}
	for _, o := range all {
		for p := range o.After {
			processes[p] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(processes)) {
		for _, f := range figures() {
			c := courseOf(all, p, f.of)
			switch {
			case len(c.values) == 0:
			case f.judged && f.perHead > 0 && c.heads[0] > 0:
				beside := c.headless(f.perHead)
				out = append(out, slope(p, f.name, c, "-"), slope(p, f.name+withoutHead, beside, beside.verdict()))
			case f.judged:
				out = append(out, slope(p, f.name, c, judge(c.hours, c.values)))
			default:
				out = append(out, slope(p, f.name, c, "-"))
			}
		}
	}
	return out
}

func slope(process, figure string, c course, verdict string) Slope {
	return Slope{process, figure, c.values[0], c.values[len(c.values)-1], fit(c.hours, c.values), verdict}
}

// verdict judges all rounds, and those after the head's window.
func (c course) verdict() string {
	v := judge(c.hours, c.values)
	if late := c.late(); judge(late.hours, late.values) == growing {
		return growing
	}
	return v
}

// fewRounds is fewer than a verdict takes, and the bounds are what growth is worth the name: larger than chance makes it,
// and a tenth of what was there.
const (
	fewRounds  = 6
	certain    = 3 // standard errors
	noteworthy = 0.1
)

// judge tells whether ys grow with xs.
func judge(xs, ys []float64) string {
	if len(xs) < fewRounds {
		return "too few rounds"
	}
	slope := fit(xs, ys)
	n := float64(len(xs))
	var mx, my, sxx, rest float64
	for i := range xs {
		mx, my = mx+xs[i]/n, my+ys[i]/n
	}
	for i := range xs {
		sxx += (xs[i] - mx) * (xs[i] - mx)
		off := ys[i] - my - slope*(xs[i]-mx)
		rest += off * off
	}
	chance := math.Sqrt(rest / (n - 2) / sxx)
	if slope > certain*chance && slope*(xs[len(xs)-1]-xs[0]) > noteworthy*my {
		return growing
	}
	return "steady"
}

// fit is the slope of the line of least squares, 0 for fewer than two points.
func fit(xs, ys []float64) float64 {
	n := float64(len(xs))
	var sx, sy, sxx, sxy float64
	for i := range xs {
		sx, sy, sxx, sxy = sx+xs[i], sy+ys[i], sxx+xs[i]*xs[i], sxy+xs[i]*ys[i]
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
