package cluster

import (
	"encoding/json"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

func TestANodeThatLostCountIsToldWhereItWas(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 5000, false)
	d.announce(40, []api.Verb{{Name: "ping", Role: api.RoleOperator}}, nil)
	eventually(t, "it is told its session", func() bool {
		for _, m := range d.messages(r.topic(mqtt.KindAck, "n1", "")) {
			var ack api.Ack
			if json.Unmarshal(m.Payload(), &ack) == nil && ack.EpochFloor == 5000 {
				return true
			}
		}
		return false
	})
	var n api.Node
	if status, text := r.call(r.root(), "GET", "/v1/nodes/n1", ""); status != 200 || json.Unmarshal([]byte(text), &n) != nil || n.Epoch != 5000 {
		t.Errorf("%d, session %d; wanted the greater one to stand", status, n.Epoch)
	}
}
