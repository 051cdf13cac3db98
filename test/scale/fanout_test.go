package scale

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestTheSpreadIsThatOfWhenEachHeard(t *testing.T) {
	begin := time.Now()
	var began, heard []time.Time
	for i := range 100 { // node i is asked after i ms, and hears 10 ms later; the last one 500 ms
		began = append(began, begin.Add(time.Duration(i)*time.Millisecond))
		heard = append(heard, began[i].Add(10*time.Millisecond))
	}
	heard[99] = began[99].Add(500 * time.Millisecond)
	var p Spread
	if p.fill(begin, began, heard, func(i int) bool { return i != 50 }) || p != (Spread{}) {
		t.Errorf("a node has it not, and it is filled in: %+v", p)
	}
	if !p.fill(begin, began, heard, func(int) bool { return true }) {
		t.Error("all have it, and it is not filled in")
	}
	near := func(what string, got float64, want time.Duration) {
		if d := got - want.Seconds(); d < -0.0005 || d > 0.0005 {
			t.Errorf("%s %v s; wanted %s", what, got, want)
		}
	}
	near("half", p.Half, 60*time.Millisecond)
	near("95 %", p.Most, 105*time.Millisecond)
	near("all", p.All, 599*time.Millisecond)
	near("each, p50", p.EachP50, 10*time.Millisecond)
	near("each, p99", p.EachP99, 500*time.Millisecond)
}

func TestAFanoutIsShownAsRates(t *testing.T) {
	f := &Fanout{Nodes: 1000, Asked: 150, Connect: 8, Desired: Spread{All: 4}, Command: Spread{All: 2}}
	var out bytes.Buffer
	if ok, err := show(&out, f.Rows()); err != nil || !ok {
		t.Errorf("%v, %v", ok, err)
	}
	flat := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"connects 125 1/s", "desired, fan-out 250 1/s", "command, fan-out 500 1/s"} {
		if !strings.Contains(flat, want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}
