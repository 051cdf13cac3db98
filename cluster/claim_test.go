package cluster

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// TestTheOnlyClusterAgentIsObeyedAfterSeveral has a node say that it obeys a claim, as one does whose site had replicas before.
func TestTheOnlyClusterAgentIsObeyedAfterSeveral(t *testing.T) {
	r := newRig(t, nil)
	for node, c := range map[string]struct{ obeys, want *api.Claim }{
		"n1": {nil, nil},
		"n2": {&api.Claim{Term: 7, Owner: "z"}, &api.Claim{Term: 8, Owner: "c1"}},
	} {
		topic := r.topic(mqtt.KindDesired, node, "")
		p := r.connect(node, r.enrol(node), topic)
		now := api.At(time.Now())
		p.say(r.topic(mqtt.KindState, node, ""), true, api.State{State: api.StateOnline, Epoch: 5, Boot: "b", At: now})
		p.say(r.topic(mqtt.KindBirth, node, ""), true, api.Birth{Node: node, Cluster: "c1", Epoch: 5, Boot: "b", At: now, TimeQuality: api.TimeSynced,
			Started: now, Version: "1", Claim: c.obeys})
		eventually(t, node+" is greeted", func() bool { return len(p.messages(topic)) > 0 })
		var signed api.Signed
		var d api.Desired
		if err := json.Unmarshal(p.messages(topic)[0].Payload(), &signed); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(signed.Payload, &d); err != nil {
			t.Fatal(err)
		}
		if (d.Claim == nil) != (c.want == nil) || d.Claim != nil && *d.Claim != *c.want {
			t.Errorf("%s, which obeys %+v, is sent claim %+v; wanted %+v", node, c.obeys, d.Claim, c.want)
		}
	}
}

func TestOnlyAReplicaThatIsStillNamedIsMissed(t *testing.T) {
	got := absent([]api.ReplicaStatus{{Name: "a", State: api.ReplicaLive}, {Name: "b", State: api.ReplicaLost}, {Name: "c", State: api.ReplicaLeaving}}, []string{"a", "b"})
	if len(got) != 1 || !slices.ContainsFunc(got, func(s string) bool { return len(s) > 12 && s[:12] == "replica b is" }) {
		t.Errorf("%q", got)
	}
}
