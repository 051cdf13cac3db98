package fault

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestALeakIsToldFromNoiseByTheSizeOfItsProcess(t *testing.T) {
	const mib = 1 << 20
	sizes := func(cluster, edge Gauge) map[string]Gauge {
		return map[string]Gauge{tierCluster: cluster, tierEdge1: edge, tierHarness: {Goroutines: 150}}
	}
	cluster, edge := Gauge{RSSBytes: 70 * mib, Goroutines: 120}, Gauge{RSSBytes: 12 * mib, Goroutines: 36}
	for what, c := range map[string]struct {
		cluster, edge Gauge
		want          string // empty: nothing
	}{
		"as before":                          {cluster, edge, ""},
		"noise":                              {Gauge{RSSBytes: 80 * mib, Goroutines: 141}, Gauge{RSSBytes: 15 * mib, Goroutines: 42}, ""},
		"a node agent leaks memory":          {cluster, Gauge{RSSBytes: 21 * mib, Goroutines: 36}, "edge-1 has 21 MiB"},
		"a node agent leaks goroutines":      {cluster, Gauge{RSSBytes: 12 * mib, Goroutines: 45}, "edge-1 has 45 goroutines"},
		"the cluster agent leaks memory":     {Gauge{RSSBytes: 160 * mib, Goroutines: 120}, edge, "cluster has 160 MiB"},
		"the cluster agent leaks goroutines": {Gauge{RSSBytes: 70 * mib, Goroutines: 180}, edge, "cluster has 180 goroutines"},
		"goroutines that nobody can read":    {cluster, Gauge{RSSBytes: 12 * mib}, "edge-1: nothing tells"},
		"memory that nobody can read":        {Gauge{Goroutines: 120}, edge, "cluster: nothing tells"},
	} {
		bad := grown(sizes(cluster, edge), sizes(c.cluster, c.edge))
		if text := strings.Join(bad, "\n"); c.want == "" && text != "" || !strings.Contains(text, c.want) || len(bad) > 1 {
			t.Errorf("%s: %q; wanted %q", what, text, c.want)
		}
	}
	if bad := grown(sizes(cluster, edge), map[string]Gauge{tierCluster: cluster, tierHarness: {Goroutines: 150}}); len(bad) != 1 {
		t.Errorf("of a node agent that is not there: %q", bad)
	}
}

// TestAGaugeFromBeforeTheHealingDoesNotCount has a clock that was ahead date the last row of the faults after those of the calm.
func TestAGaugeFromBeforeTheHealingDoesNotCount(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(1764000000+int64(seconds), 0) }
	values := []reading{{at(10), 36}, {at(11), 37}, {at(14), 90}}
	for what, c := range map[string]struct {
		marks []reading
		least float64
		want  float64 // 0: an error
	}{
		"the newest of the calm":   {[]reading{{at(10), 2}, {at(11), 2}}, 2, 37},
		"of an earlier round only": {[]reading{{at(10), 1}, {at(11), 1}}, 2, 0},
		"none":                     {nil, 1, 0},
		"a mark without the value": {[]reading{{at(12), 2}}, 2, 0},
	} {
		got, err := newestBeside(values, c.marks, c.least)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%s: %v, %v; wanted %v", what, got, err, c.want)
		}
	}
}

func TestATickerThatIsHushedMarksItsCalm(t *testing.T) {
	tick := &ticker{}
	answer := func() string {
		w := httptest.NewRecorder()
		tick.ServeHTTP(w, nil)
		return strings.TrimSpace(w.Body.String())
	}
	var got []string
	for _, quiet := range []bool{false, true, true, false, true} {
		tick.hush(quiet)
		got = append(got, answer())
	}
	if want := "fault_tick 1,fault_calm 1,fault_calm 1,fault_tick 2,fault_calm 2"; strings.Join(got, ",") != want || tick.calms() != 2 {
		t.Errorf("it answers %q; wanted %q", got, want)
	}
}
