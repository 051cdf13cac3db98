package scale

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// committed is the growth that docs/performance shows.
var committed = filepath.Join("..", "..", "docs", "performance", "growth.json")

func TestThePlotIsThatOfTheCommittedFigures(t *testing.T) {
	g, err := ReadGrowth(committed)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(strings.TrimSuffix(committed, ".json") + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	if got := g.SVG(); !bytes.Equal(got, want) {
		t.Error("growth.svg is not what growth.json gives; run: bin/skerry-scale plot docs/performance/growth.json")
	}
}

// growth is one whose figures are known: 100 MiB and a tenth of a MiB for each node, a processor that is full at 10,000.
func growth(sizes ...int) *Growth {
	g := &Growth{At: "2026-01-01", Machine: "a < b & c", Version: "v0"}
	for _, n := range sizes {
		l := &Load{Nodes: n, Restart: &Restart{Most: float64(n) / 100}}
		l.Hold.RSSBytes, l.Hold.CPU = 100<<20+int64(n)<<20/10, float64(n)/100
		g.Points = append(g.Points, l)
	}
	return g
}

func TestTheLineFindsWhatEachNodeCosts(t *testing.T) {
	all := curves()
	base, each := all[0].slope(growth(100, 1000, 5000).Points)
	if math.Abs(base-100) > 0.01 || math.Abs(each-0.1) > 1e-6 {
		t.Errorf("%.3f MiB and %.6f for each node; wanted 100 and 0.1", base, each)
	}
	var out bytes.Buffer
	if err := growth(100, 1000, 5000).show(&out, 100_000); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10100", "10000 nodes: the core is full", "12000 nodes: 95 % need more than two minutes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestThePlotIsWellFormedWhateverItIsGiven(t *testing.T) {
	zero := growth(1)
	zero.Points[0].Restart = nil
	for what, g := range map[string]*Growth{"usual": growth(100, 1000), "one size": growth(7), "without a restart": zero} {
		d := xml.NewDecoder(bytes.NewReader(g.SVG()))
		for {
			_, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if s := string(g.SVG()); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
			t.Errorf("%s: a figure is no number", what)
		}
	}
}

func TestABudgetThatIsMissedShows(t *testing.T) {
	l := growth(1000).Points[0]
	l.Online = 1000
	for what, c := range map[string]struct {
		change func(l *Load)
		ok     bool
	}{
		"all is well":            {func(*Load) {}, true},
		"a node is away":         {func(l *Load) { l.Online = 999 }, false},
		"too much memory":        {func(l *Load) { l.IdleEach = 46 << 10 }, false},
		"95 % are late":          {func(l *Load) { l.Restart = &Restart{Nodes: 1, Most: 121} }, false},
		"95 % never came":        {func(l *Load) { l.Restart = &Restart{Nodes: 1, Most: -1} }, false},
		"a question is refused":  {func(l *Load) { l.Queries = []Query{{What: "all", Error: "too much"}} }, false},
		"the limit of memory":    {func(l *Load) { l.Hold.RSSMost = 3 << 30 }, false},
		"a storm within budgets": {func(l *Load) { l.Restart = &Restart{Nodes: 1, Most: 119} }, true},
	} {
		changed := *l
		c.change(&changed)
		if ok, err := show(io.Discard, changed.Rows()); err != nil || ok != c.ok {
			t.Errorf("%s: ok %v, %v; wanted %v", what, ok, err, c.ok)
		}
	}
}

func TestProcessorTimeAddsUpOverRestarts(t *testing.T) {
	var u usage
	u.take(10, 1)
	u.take(10, 3)
	u.take(11, 0.5) // a new process begins at zero
	u.take(11, 2)
	if got := u.before + u.life; got != 5 {
		t.Errorf("%v s; wanted 3 of the first process and 2 of the second", got)
	}
}

// cannot skips a test that this machine cannot run, and fails it where it has to.
func cannot(t *testing.T, why error) {
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func TestACageHoldsAProcess(t *testing.T) {
	if os.Getuid() != 0 {
		cannot(t, errors.New("it takes root"))
	}
	c, err := newCage(64 << 20)
	if err != nil {
		cannot(t, err)
	}
	if c.peak() < 0 || c.add(-1) == nil {
		t.Error("a process that is none was taken")
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

func TestTheUsageIsToldWithEveryFault(t *testing.T) {
	var out bytes.Buffer
	d := &Door{Out: &out, Err: &out}
	if code := d.Main(t.Context(), []string{"load", "--nodes", "0", "--minutes", "-1", "--memory", "much", "--loss", "0.2"}); code != ExitFailed {
		t.Errorf("exit code %d; wanted %d", code, ExitFailed)
	}
	for _, field := range []string{"--nodes 0", "--minutes -1", "--memory much", "--loss 0.2"} {
		if !strings.Contains(out.String(), field) {
			t.Errorf("no word of %s in %q", field, &out)
		}
	}
}

func TestQuantilesAreOfTheSortedTimes(t *testing.T) {
	times := []float64{5, 1, 4, 2, 3}
	if quantile(times, 0.5) != 3 || quantile(times, 0.99) != 5 || quantile(nil, 0.5) != 0 {
		t.Errorf("p50 %v, p99 %v", quantile(times, 0.5), quantile(times, 0.99))
	}
	if w := (&watch{pid: func() int { return os.Getpid() }}); w.end(w.begin()).RSSMost <= 0 || time.Since(w.begin().begun) > time.Minute {
		t.Error("a phase without memory")
	}
}
