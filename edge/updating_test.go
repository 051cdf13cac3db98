package edge

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/edge/update"
)

// TestAnOrderThatComesOutsideItsWindowWaitsForIt has a node come back at midnight to an order for two o'clock.
func TestAnOrderThatComesOutsideItsWindowWaitsForIt(t *testing.T) {
	self, err := update.Adopt(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		clock := agent.NewClock(time.Time{}, agent.ClockSource{Boot: func() time.Duration { return time.Since(began) }, Synced: func() bool { return true }})
		u := &updates{agent: &Agent{clock: clock}, self: self}
		told := 0
		wait := func(ctx context.Context, window string) error {
			return u.inWindow(ctx, "c1", window, func(string) { told++ })
		}
		if err := wait(t.Context(), "02:00-03:00"); err != nil || told != 1 {
			t.Fatalf("%v, told %d times", err, told)
		}
		if took := time.Since(began); took < 2*time.Hour || took > 2*time.Hour+2*lookAgain {
			t.Errorf("waited %s; wanted two hours", took)
		}
		for _, open := range []string{"", "01:00-04:00"} {
			at := time.Now()
			if err := wait(t.Context(), open); err != nil || time.Since(at) > 0 || told != 1 {
				t.Errorf("%q: %v after %s", open, err, time.Since(at))
			}
		}
		within, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := wait(within, "22:00-23:00"); err == nil {
			t.Error("it began after its deadline")
		}
	})
}
