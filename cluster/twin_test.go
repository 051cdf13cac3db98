package cluster

import (
	"testing"

	"github.com/skerry-edge/skerry/mqtt"
)

// The second one is no change of the first: it is told what it should be, too.
func TestASecondDeviceOfTheSameSessionIsGreeted(t *testing.T) {
	r := newRig(t, nil)
	cert := r.enrol("n1")
	r.online("n1", cert, 5, false)
	second := r.online("n1", cert, 5, false) // started a moment later, as another process
	eventually(t, "the second is greeted", func() bool {
		for _, m := range second.messages(r.topic(mqtt.KindDesired, "n1", "")) {
			if !m.Retained() { // not what the first was told
				return true
			}
		}
		return false
	})
}
