package edge

import (
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// The engine journals a status while it is being sent.
func TestAStatusIsSentWithoutBeingWritten(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	a.epoch.Store(7)
	st := api.Status{ID: "c1", Phase: api.PhaseSucceeded, Epoch: 3, At: 1}
	was := st
	if err := a.SendStatus(t.Context(), &st); err == nil {
		t.Fatal("sent without a link")
	}
	if st.Epoch != was.Epoch {
		t.Errorf("session %d was written into the engine's status; wanted %d", st.Epoch, was.Epoch)
	}
}
