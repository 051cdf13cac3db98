package telemetry

import (
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestTwoRowsOfOneInstantAreToldApart has a node's clock set back by ten rows, so that its rows come a second time with other
// values: against samples in order, and against samples that were late themselves.
func TestTwoRowsOfOneInstantAreToldApart(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	row := func(n int, at time.Time, counter float64) *api.Batch {
		return &api.Batch{Epoch: 1, Seq: uint64(n), Boot: "b", T0: api.At(at), Series: []string{"constant", "counter", "other"},
			Rows: []api.Row{{Values: []float64{1, counter, -counter}}}}
	}
	s := start(t, Config{})
	for n := range 20 {
		mustAppend(t, s.Store, "n1", row(n+1, now.Add(time.Duration(n-20)*time.Second), float64(n)))
	}
	want := map[Reason]uint64{}
	rejected := func(what string, more uint64) {
		t.Helper()
		if want[ReasonDuplicate] += more; s.Rejected("n1")[ReasonDuplicate] != want[ReasonDuplicate] {
			t.Fatalf("%s: %v; wanted %v", what, s.Rejected("n1"), want)
		}
	}
	for n := 10; n < 20; n++ {
		mustAppend(t, s.Store, "n1", row(n+1, now.Add(time.Duration(n-20)*time.Second), float64(n)))
	}
	rejected("rows that are sent again", 0)
	for n := 10; n < 20; n++ {
		mustAppend(t, s.Store, "n1", row(n+11, now.Add(time.Duration(n-20)*time.Second), 100+float64(n)))
	}
	rejected("ten other rows in their place", 20) // the constant is what it was
	late := now.Add(-15500 * time.Millisecond)
	mustAppend(t, s.Store, "n1", row(40, late, 200))
	rejected("a late row of an instant of its own", 0)
	mustAppend(t, s.Store, "n1", row(40, late, 200))
	rejected("the same again", 0)
	mustAppend(t, s.Store, "n1", row(41, late, 201))
	rejected("another of its instant", 2)
	part := &api.Batch{Epoch: 1, Seq: 42, Boot: "b", T0: api.At(late), Series: []string{"fourth"}, Rows: []api.Row{{Values: []float64{4}}}}
	mustAppend(t, s.Store, "n1", part)
	rejected("the rest of a row that was split", 0)
	for expr, want := range map[string]float64{"count_over_time(counter[1m])": 21, "max_over_time(counter[1m])": 200, "count_over_time(fourth[1m])": 1} {
		if got := scalar(t, s.Store, expr, now); got != want {
			t.Errorf("%s is %v; wanted %v", expr, got, want)
		}
	}
}

// TestTwoRowsOfOneInstantAreToldApartAfterARestart begins without any memory of what came before.
func TestTwoRowsOfOneInstantAreToldApartAfterARestart(t *testing.T) {
	dir, now := t.TempDir(), time.Now().Truncate(time.Second)
	s := start(t, Config{Dir: dir})
	for _, at := range []time.Duration{-30, -20, -10} {
		mustAppend(t, s.Store, "n1", batch("x", now.Add(at*time.Second), time.Second, float64(-at)))
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, Config{Dir: dir})
	mustAppend(t, s.Store, "n1", batch("x", now.Add(-20*time.Second), time.Second, 20))
	if got := s.Rejected("n1"); len(got) > 0 {
		t.Errorf("a row that is sent again: %v", got)
	}
	mustAppend(t, s.Store, "n1", batch("x", now.Add(-30*time.Second), time.Second, 31))
	if got := s.Rejected("n1"); got[ReasonDuplicate] != 1 {
		t.Errorf("another row: %v; wanted a duplicate", got)
	}
}
