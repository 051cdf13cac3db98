package account

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// wants fails unless a check found nothing (want empty), or a violation that says want.
func wants(t *testing.T, what string, bad []Violation, want string) {
	t.Helper()
	switch {
	case want == "" && len(bad) > 0:
		t.Errorf("%s: %v; wanted none", what, bad)
	case want != "" && len(bad) == 0:
		t.Errorf("%s: no violation; wanted one that says %q", what, want)
	case want != "" && !strings.Contains(bad[0].Detail, want):
		t.Errorf("%s: %q; wanted one that says %q", what, bad[0].Detail, want)
	}
}

// world is a sound outcome of one command, to be broken.
type world struct {
	order  Order
	truth  map[string]Command
	sights []commandSight
}

func soundWorld() *world {
	return &world{
		order: Order{ID: "c1", Node: "n1", Verb: "work", Via: "mqtt", Answered: true},
		truth: map[string]Command{"c1": {Node: "n1", Verb: "work", Arrivals: 2, Effects: 1, Finals: []api.Phase{"succeeded"}}},
		sights: []commandSight{
			{"rest", true, map[string]Life{"c1": {Finals: []api.Phase{"succeeded"}, Said: []api.Phase{"succeeded"}, Due: true}}},
			{"mqtt", false, map[string]Life{"c1": {Finals: []api.Phase{"succeeded"}, Said: []api.Phase{"succeeded"}, Due: true}}},
		},
	}
}

func (w *world) node(change func(c *Command)) {
	c := w.truth["c1"]
	change(&c)
	w.truth["c1"] = c
}

func (w *world) life(view int, change func(l *Life)) {
	l := w.sights[view].lives["c1"]
	change(&l)
	w.sights[view].lives["c1"] = l
}

func TestEveryCommandHasOneEndOnBothSidesAndInAllViews(t *testing.T) {
	both := func(w *world, change func(l *Life)) {
		w.life(0, change)
		w.life(1, change)
	}
	for name, c := range map[string]struct {
		breakIt func(w *world)
		want    string
	}{
		"sound": {func(*world) {}, ""},
		"too late to be ordered": {func(w *world) {
			clear(w.truth)
			clear(w.sights[0].lives)
			w.sights[1].lives["c1"] = Life{Finals: []api.Phase{"expired"}, Due: true, Unordered: true}
		}, ""},
		"too late to be ordered, and it ran": {func(w *world) {
			clear(w.sights[0].lives)
			w.sights[1].lives["c1"] = Life{Finals: []api.Phase{"expired"}, Due: true, Unordered: true}
		}, "rest does not show it"},
		"too late to be ordered, and journalled": {func(w *world) {
			clear(w.truth)
			w.life(0, func(l *Life) { *l = Life{Finals: []api.Phase{"timed_out"}, Due: true} })
			w.sights[1].lives["c1"] = Life{Finals: []api.Phase{"expired"}, Due: true, Unordered: true}
		}, "shows the end timed_out"},
		"two ends on the node":    {func(w *world) { w.node(func(c *Command) { c.Finals = append(c.Finals, "failed") }) }, "gave the ends [succeeded failed]"},
		"no end on the node":      {func(w *world) { w.node(func(c *Command) { c.Finals = nil }) }, "gave the ends []"},
		"another node":            {func(w *world) { w.node(func(c *Command) { c.Node = "n2" }) }, "it ran on n2"},
		"lost by rest":            {func(w *world) { delete(w.sights[0].lives, "c1") }, "rest does not show it"},
		"no end in rest":          {func(w *world) { w.life(0, func(l *Life) { l.Finals = nil }) }, "rest shows the ends []"},
		"two ends in rest":        {func(w *world) { w.life(0, func(l *Life) { l.Finals = []api.Phase{"succeeded", "failed"} }) }, "rest shows the ends [succeeded failed]"},
		"the same end twice":      {func(w *world) { w.life(0, func(l *Life) { l.Finals = []api.Phase{"succeeded", "succeeded"} }) }, "rest shows the ends"},
		"silence where it is due": {func(w *world) { w.life(1, func(l *Life) { l.Finals = nil }) }, "mqtt shows the ends []"},
		"silence where it is not": {func(w *world) { w.life(1, func(l *Life) { *l = Life{} }) }, ""},
		"unheard":                 {func(w *world) { delete(w.sights[1].lives, "c1") }, ""},
		"views disagree":          {func(w *world) { w.life(1, func(l *Life) { l.Finals = []api.Phase{"failed"} }) }, "rest shows the end succeeded, mqtt shows failed"},
		"sides disagree":          {func(w *world) { both(w, func(l *Life) { l.Finals = []api.Phase{"timed_out"} }) }, "its node says succeeded"},
		"closed late, and said so": {func(w *world) {
			w.sights = w.sights[:1]
			w.life(0, func(l *Life) { l.Finals, l.Closed, l.Late = []api.Phase{"timed_out"}, true, "succeeded" })
		}, ""},
		"closed late, and the other view says so": {func(w *world) {
			both(w, func(l *Life) { l.Finals = []api.Phase{"timed_out"} })
			w.life(0, func(l *Life) { l.Closed, l.Late = true, "succeeded" })
		}, ""},
		"closed late, said wrongly": {func(w *world) {
			w.life(0, func(l *Life) { l.Finals, l.Closed, l.Late = []api.Phase{"timed_out"}, true, "failed" })
		}, "its node says succeeded"},
		"late, but not closed":   {func(w *world) { w.life(0, func(l *Life) { l.Finals, l.Late = []api.Phase{"timed_out"}, "succeeded" }) }, "its node says succeeded"},
		"words put in its mouth": {func(w *world) { w.life(1, func(l *Life) { l.Said = []api.Phase{"failed"} }) }, "shows that the node said failed"},
		"heard of no arrival":    {func(w *world) { delete(w.truth, "c1") }, "shows that the node said succeeded"},
		"answered, and nowhere":  {func(w *world) { w.sights[0].whole = false; clear(w.sights[0].lives); clear(w.sights[1].lives) }, "no view shows its end"},
		"refused at the door": {func(w *world) {
			w.truth = nil
			delete(w.sights[0].lives, "c1")
			w.life(1, func(l *Life) { *l = Life{Finals: []api.Phase{"rejected"}, Due: true} })
		}, ""},
		"refused, and not said so": {func(w *world) {
			w.truth = nil
			delete(w.sights[0].lives, "c1")
			w.life(1, func(l *Life) { *l = Life{Finals: []api.Phase{"failed"}, Due: true} })
		}, "rest does not show it"},
		"refused, and yet it ran": {func(w *world) {
			delete(w.sights[0].lives, "c1")
			w.life(1, func(l *Life) { *l = Life{Finals: []api.Phase{"rejected"}, Due: true} })
		}, "rest does not show it"},
		"never answered, nowhere": {func(w *world) {
			w.order.Answered = false
			w.truth = nil
			clear(w.sights[0].lives)
			clear(w.sights[1].lives)
		}, ""},
	} {
		w := soundWorld()
		c.breakIt(w)
		wants(t, name, checkCommands([]Order{w.order}, w.truth, w.sights), c.want)
	}
}

func TestSideEffectsHappenAtMostOnce(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt func(w *world)
		want    string
	}{
		"sound":                     {func(*world) {}, ""},
		"twice":                     {func(w *world) { w.node(func(c *Command) { c.Effects = 2 }) }, "it was done 2 times"},
		"a success without":         {func(w *world) { w.node(func(c *Command) { c.Effects = 0 }) }, "succeeded, and was not done"},
		"rejected, and done":        {func(w *world) { w.node(func(c *Command) { c.Finals = []api.Phase{"rejected"} }) }, "it is rejected, and was done"},
		"expired, and done":         {func(w *world) { w.node(func(c *Command) { c.Finals = []api.Phase{"expired"} }) }, "it is expired, and was done"},
		"failed after the effect":   {func(w *world) { w.node(func(c *Command) { c.Finals = []api.Phase{"failed"} }) }, ""},
		"failed before the effect":  {func(w *world) { w.node(func(c *Command) { c.Finals, c.Effects = []api.Phase{"failed"}, 0 }) }, ""},
		"of an order nobody gave":   {func(w *world) { w.order.ID = "c2" }, "nobody ordered it"},
		"cancelled before it began": {func(w *world) { w.node(func(c *Command) { c.Finals, c.Effects = []api.Phase{"cancelled"}, 0 }) }, ""},
	} {
		w := soundWorld()
		c.breakIt(w)
		wants(t, name, checkEffects([]Order{w.order}, w.truth), c.want)
	}
}

func TestDesiredGenerationConverges(t *testing.T) {
	for name, c := range map[string]struct {
		node  Node
		sight map[string]Sight
		want  string
	}{
		"sound":          {Node{ID: "n1", Online: true, Desired: 3}, map[string]Sight{"n1": {Desired: 3, Reported: 3}}, ""},
		"behind":         {Node{ID: "n1", Online: true, Desired: 2}, map[string]Sight{"n1": {Desired: 3, Reported: 2}}, "wants generation 3"},
		"not reported":   {Node{ID: "n1", Online: true, Desired: 3}, map[string]Sight{"n1": {Desired: 3, Reported: 2}}, "heard of 2"},
		"never told":     {Node{ID: "n1", Online: true}, map[string]Sight{"n1": {}}, "wants generation 0"},
		"away":           {Node{ID: "n1", Desired: 2}, map[string]Sight{"n1": {Desired: 3, Reported: 2}}, ""},
		"unknown to all": {Node{ID: "n1", Online: true, Desired: 3}, nil, "does not show the node"},
	} {
		wants(t, name, checkDesired("rest", []Node{c.node}, c.sight), c.want)
	}
}

// measured is a node with three acknowledged rows of two series, and what a faithful store has of it.
func measured() (*Node, []Sample) {
	tele := &Telemetry{Series: 2}
	tele.Made([]int64{1000, 2000, 3000})
	tele.Acked([]int32{0, 1, 2})
	n := &Node{ID: "n1", Index: 7, Telemetry: tele}
	var all []Sample
	for row, at := range []int64{1000, 2000, 3000} {
		for series := range 2 {
			all = append(all, Sample{series, at, Value(7, series, row)})
		}
	}
	return n, all
}

func TestTelemetryGapsAreWhatWasReported(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt func(n *Node, s *[]Sample)
		want    string
	}{
		"sound":                   {func(*Node, *[]Sample) {}, ""},
		"acknowledged, and gone":  {func(_ *Node, s *[]Sample) { *s = (*s)[1:] }, "lacks row 0 of series 0, which was acknowledged"},
		"gone, other loss told":   {func(n *Node, s *[]Sample) { *s = (*s)[1:]; n.Dropped.Samples = 1 }, "lacks row 0 of series 0, which was acknowledged"},
		"twice":                   {func(_ *Node, s *[]Sample) { *s = append(*s, (*s)[0]) }, "has row 0 of series 0 twice"},
		"at another time":         {func(_ *Node, s *[]Sample) { (*s)[3].At++ }, "has row 1 of series 1 at 2001; it was made at 2000"},
		"another value":           {func(_ *Node, s *[]Sample) { (*s)[3].Value++ }, "made at 3000"},
		"not one of ours":         {func(_ *Node, s *[]Sample) { (*s)[3].Value = 0.5 }, "never made"},
		"of another node":         {func(_ *Node, s *[]Sample) { (*s)[3].Value = Value(8, 1, 1) }, "never made"},
		"in another series":       {func(_ *Node, s *[]Sample) { (*s)[3].Series = 0 }, "never made"},
		"a row that was not made": {func(_ *Node, s *[]Sample) { *s = append(*s, Sample{0, 4000, Value(7, 0, 3)}) }, "never made"},
		"given up without a word": {func(n *Node, _ *[]Sample) { n.Telemetry.Made([]int64{4000}) }, "lacks 2 samples of 8; the node reports 0"},
		"given up, and told":      {func(n *Node, _ *[]Sample) { n.Telemetry.Made([]int64{4000}); n.Dropped.Samples = 2 }, ""},
		"given up, told by half":  {func(n *Node, _ *[]Sample) { n.Telemetry.Made([]int64{4000}); n.Dropped.Samples = 1 }, "reports 1 as given up"},
		"thinned out, and told":   {func(n *Node, _ *[]Sample) { n.Telemetry.Made([]int64{4000}); n.Dropped.Downsampled = 2 }, ""},
		"told, and not given up":  {func(n *Node, _ *[]Sample) { n.Dropped.Samples = 2 }, "reports 2 as given up"},
		"given up, yet it came": {func(n *Node, s *[]Sample) {
			n.Telemetry.Made([]int64{4000})
			n.Dropped.Samples = 2
			*s = append(*s, Sample{0, 4000, Value(7, 0, 3)}, Sample{1, 4000, Value(7, 1, 3)})
		}, ""},
		"still held":               {func(n *Node, _ *[]Sample) { n.Held = 1 }, "still holds 1 batches"},
		"nothing stored, all lost": {func(_ *Node, s *[]Sample) { *s = nil }, "lacks row 0"},
	} {
		n, samples := measured()
		c.breakIt(n, &samples)
		_, bad := checkSamples("promql", n, samples, nil)
		wants(t, name, bad, c.want)
	}
	n, samples := measured()
	sum, _ := checkSamples("promql", n, samples[1:], nil)
	if sum != (Tally{Made: 6, Acked: 6, Stored: 5, Missing: 1}) {
		t.Errorf("sum %+v", sum)
	}
}

func TestWhatDamageTookIsAcceptedAndNoMore(t *testing.T) {
	took := func(values ...float64) Samples {
		s := Samples{}
		for _, v := range values {
			s.Add("n1", v)
		}
		return s
	}
	for name, c := range map[string]struct {
		lost Samples
		want string
	}{
		"nothing was damaged": {nil, "which was acknowledged"},
		"both taken":          {took(Value(7, 0, 0), Value(7, 1, 0)), ""},
		"one taken":           {took(Value(7, 0, 0)), "lacks row 0 of series 1, which was acknowledged"},
		"others taken":        {took(Value(7, 0, 1), Value(7, 1, 1)), "lacks row 0 of series 0, which was acknowledged"},
		"of another node":     {Samples{"n2": {Value(7, 0, 0): true, Value(7, 1, 0): true}}, "which was acknowledged"},
	} {
		n, samples := measured()
		r, err := Make(t.Context(), &Truth{Nodes: []Node{*n}, Lost: c.lost}, storeOf{samples: samples[2:]})
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "" && r.Total != 0 || c.want != "" && (r.Err() == nil || !strings.Contains(r.Err().Error(), c.want)) {
			t.Errorf("%s: %v; wanted %q", name, r.Err(), c.want)
		}
	}
}

// storeOf is a view of samples.
type storeOf struct {
	samples []Sample
	err     error
}

func (storeOf) Name() string { return "store" }

func (s storeOf) Samples(context.Context, string, time.Time, time.Time) ([]Sample, error) {
	return s.samples, s.err
}

func TestTheReportHoldsWhatTheChecksFind(t *testing.T) {
	n, samples := measured()
	w := soundWorld()
	truth := &Truth{Nodes: []Node{*n}, Orders: []Order{w.order}, Commands: w.truth}
	view := fixed{w.sights[0]}
	r, err := Make(t.Context(), truth, view, storeOf{samples: samples})
	if err != nil || r.Err() != nil || r.Ends[api.PhaseSucceeded] != 1 || r.Samples.Stored != 6 {
		t.Errorf("sound: %+v, %v, %v", r, err, r.Err())
	}
	w.node(func(c *Command) { c.Effects = 3 })
	r, err = Make(t.Context(), truth, view, storeOf{samples: samples[1:]})
	if err != nil || r.Total != 3 || r.Err() == nil || !strings.Contains(r.Err().Error(), "3 violations") {
		t.Errorf("broken: %+v, %v; wanted the effect, the sample and the sum", r, err)
	}
	if _, err := Make(t.Context(), truth, storeOf{err: errors.New("store is away")}); err == nil || !strings.Contains(err.Error(), "n1: store is away") {
		t.Errorf("a view that cannot be had: %v", err)
	}
}

// fixed is a view of commands.
type fixed struct{ commandSight }

func (f fixed) Name() string { return f.view }

func (f fixed) Commands(context.Context, []Order) (map[string]Life, bool, error) {
	return f.lives, f.whole, nil
}
