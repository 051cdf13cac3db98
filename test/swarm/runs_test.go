package swarm

import (
	"slices"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func containers(list []api.WorkloadStatus) (ids []string) {
	for _, st := range list {
		for _, c := range st.Containers {
			ids = append(ids, string(st.State)+" "+c.ID)
		}
	}
	return ids
}

func TestASimulatedWorkloadIsOneContainerForAsLongAsItIsWanted(t *testing.T) {
	a := api.Workload{Name: "a", Containers: []api.Container{{Name: "main", Image: "i"}}}
	b := api.Workload{Name: "b", Containers: []api.Container{{Name: "main", Image: "i"}}}
	other := a
	other.Containers = []api.Container{{Name: "main", Image: "other"}}
	away := a
	away.Draining = true
	r := &runs{}
	for i, c := range []struct {
		want   []api.Workload
		runs   []string
		begun  int
		states []api.WorkloadState
	}{
		{[]api.Workload{a}, []string{"running n.1.main"}, 1, []api.WorkloadState{api.WorkloadRunning}},
		{[]api.Workload{a, b}, []string{"running n.1.main", "running n.2.main"}, 2, []api.WorkloadState{api.WorkloadRunning, api.WorkloadRunning}},
		{[]api.Workload{b}, []string{"running n.2.main"}, 2, []api.WorkloadState{api.WorkloadRunning}},
		{[]api.Workload{a, b}, []string{"running n.3.main", "running n.2.main"}, 3, []api.WorkloadState{api.WorkloadRunning, api.WorkloadRunning}}, // a gap is a restart
		{[]api.Workload{other, b}, []string{"running n.4.main", "running n.2.main"}, 4, []api.WorkloadState{api.WorkloadRunning, api.WorkloadRunning}},
		{[]api.Workload{away, b}, []string{"running n.2.main"}, 4, []api.WorkloadState{api.WorkloadSucceeded, api.WorkloadRunning}},
	} {
		got := r.take("n", c.want, false, 1)
		var states []api.WorkloadState
		for _, st := range got {
			states = append(states, st.State)
			if err := st.Validate(); err != nil {
				t.Error(err)
			}
		}
		if !slices.Equal(containers(got), c.runs) || r.begun != c.begun || !slices.Equal(states, c.states) {
			t.Errorf("step %d: %v, %v, %d begun; wanted %v, %v, %d", i, containers(got), states, r.begun, c.runs, c.states, c.begun)
		}
	}
	if got := r.take("n", []api.Workload{b}, true, 1); got[0].State != api.WorkloadRejected || len(got[0].Containers) != 0 {
		t.Errorf("%+v; wanted a refusal", got)
	}
}
