package registry

import (
	"slices"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestANodeThatIsOnlineAndMeasuresNothingIsListed(t *testing.T) {
	c := &clock{now: zero}
	r := newRegistry(t, Config{Now: c.Now})
	for _, id := range []string{"n1", "n2", "n3"} {
		must(t, r.Enrolled(Enrolment{Node: id, KeySHA256: id}))
		b := birth(id, 1, "b1", 1)
		if id == "n3" {
			b.IntervalMillis = 0 // measures nothing, as it says
		}
		must(t, r.OnState(id, state(api.StateOnline, 1), false), r.OnBirth(id, b, false))
	}
	want := func(when string, ids ...string) {
		t.Helper()
		if got := r.Silent(c.Now()); !slices.Equal(got, ids) {
			t.Errorf("%s: %v; wanted %v", when, got, ids)
		}
	}
	c.add(muteAtLeast)
	want("at the begin")
	r.OnTelemetry("n1", c.Now())
	c.add(time.Second)
	want("after five intervals and more", "n2")
	c.add(muteAtLeast)
	want("when the other ends too", "n1", "n2")
	must(t, r.OnState("n2", state(api.StateOffline, 1), false))
	r.OnTelemetry("n1", c.Now())
	want("stopped, and back")
	c.add(time.Hour)
	r.OnBroker(false)
	want("while nobody is heard")
	r.OnBroker(true)
	want("when they are heard again")
}
