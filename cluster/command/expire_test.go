package command

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestACloseTellsWhatTheNodeLastSaid(t *testing.T) {
	c := newClock()
	j := newJournal(t, Config{Now: c.Now, Grace: 10 * time.Second})
	j.OnNodeUp("n1", 1, nil)
	mustSubmit(t, j, Order{ID: "c1", Deadline: c.Now().Add(time.Minute)})
	mustStatus(t, j, "c1", api.PhaseAccepted)
	said := "rejected; that waits to be journalled: no space left on device" + strings.Repeat("é", 1000)
	said = said[:api.MaxReasonBytes]
	if err := j.OnStatus("n1", &api.Status{ID: "c1", Phase: api.PhaseAccepted, Epoch: 1, At: api.At(c.Now()), Progress: said}); err != nil {
		t.Fatal(err)
	}
	c.add(70 * time.Second)
	j.turn(t.Context())
	rec := mustGet(t, j, "c1")
	last := rec.History[len(rec.History)-1]
	if rec.Phase != api.PhaseTimedOut || !strings.Contains(last.Reason, "no end by the deadline") || !strings.Contains(last.Reason, "no space left on device") ||
		len(last.Reason) > api.MaxReasonBytes {
		t.Errorf("%s: %q; wanted what the node said last in the reason", rec.Phase, last.Reason)
	}
}
