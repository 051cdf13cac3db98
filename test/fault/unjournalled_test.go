package fault

import (
	"maps"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func TestEndsThatNoJournalTookAreReadFromTheLog(t *testing.T) {
	log := `time=2026-11-27T03:03:33.818Z level=INFO msg="command closed" command=c1 verb=exec by=rest:admin state=succeeded
time=2026-11-27T03:03:35.685Z level=ERROR msg="command closed, but not journalled" command=c2 verb=exec by=mqtt:a state=rejected err="journal command c2: no space"
time=2026-11-27T03:03:36.685Z level=ERROR msg="command closed, but not journalled" command=c3 verb=exec
`
	got, want := unjournalled([]byte(log)), map[string]api.Phase{"c2": api.PhaseRejected}
	if !maps.Equal(got, want) {
		t.Errorf("read %v; wanted %v", got, want)
	}
}
