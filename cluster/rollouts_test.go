package cluster

import (
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func TestAListOfRolloutsSumsUpTheirNodesAndLeavesThemOut(t *testing.T) {
	r := newRig(t, nil)
	for _, n := range []string{"n1", "n2"} {
		r.enrol(n)
	}
	made := must[api.Rollout](r, "POST", "/v1/rollouts", api.RolloutSpec{Name: "v150", Version: "1.5.0", URL: "https://releases.example", Nodes: []string{"n1", "n2"}})
	if len(made.Members) != 2 {
		t.Fatalf("%+v", made)
	}
	status, text := r.call(r.root(), "GET", "/v1/rollouts", "")
	if status != 200 || strings.Contains(text, `"n1"`) || strings.Contains(text, `"members"`) {
		t.Errorf("%d %s; wanted no node", status, text)
	}
	list := must[api.List[api.Rollout]](r, "GET", "/v1/rollouts", nil).Items
	if len(list) != 1 || list[0].Counts.Total() != 2 || list[0].Name != "v150" || list[0].Version != "1.5.0" || list[0].Batches != made.Batches {
		t.Errorf("%+v; wanted what its table shows", list)
	}
	if one := must[api.Rollout](r, "GET", "/v1/rollouts/v150", nil); len(one.Members) != 2 || len(one.Nodes) != 2 {
		t.Errorf("%+v; wanted its nodes in itself", one)
	}
}
