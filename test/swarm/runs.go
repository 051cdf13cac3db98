package swarm

import (
	"fmt"
	"slices"

	"github.com/skerry-edge/skerry/api"
)

// runs is a trivial runtime: what is desired runs at once and for ever, under a name that is new whenever it was begun anew.
type runs struct {
	begun int            // workloads, ever
	now   map[string]run // by workload
}

// run is a workload that runs.
type run struct {
	hash  string
	since api.Millis
	ids   []string // of its containers, in their order
}

// take makes what runs what is wanted, and tells how each stands. What is draining ends at once.
func (r *runs) take(node string, want []api.Workload, refuse bool, at api.Millis) (out []api.WorkloadStatus) {
	next := make(map[string]run, len(want))
	for i := range want {
		w := &want[i]
		st := api.WorkloadStatus{Name: w.Name, Hash: w.Hash()}
		switch one, runs := r.now[w.Name]; {
		case refuse:
			st.State, st.Reason, st.Message = api.WorkloadRejected, "Profile", "the profile says so"
		case w.Draining:
			st.State, st.Reason = api.WorkloadSucceeded, "Completed"
		default:
			if !runs || one.hash != st.Hash {
				one = r.begin(node, w, st.Hash, at)
			}
			next[w.Name] = one
			one.tell(w, &st)
		}
		out = append(out, st)
	}
	r.now = next
	return out
}

func (r *runs) begin(node string, w *api.Workload, hash string, at api.Millis) run {
	r.begun++
	one := run{hash: hash, since: at}
	for _, c := range w.Containers {
		one.ids = append(one.ids, fmt.Sprintf("%s.%d.%s", node, r.begun, c.Name))
	}
	return one
}

func (one *run) tell(w *api.Workload, st *api.WorkloadStatus) {
	st.State, st.Ready, st.Runtime, st.Started = api.WorkloadRunning, true, "simulated", one.since
	for i, c := range w.Containers {
		st.Containers = append(st.Containers, api.ContainerStatus{Name: c.Name, State: api.ContainerRunning, ID: one.ids[i], Ready: true, Up: true, Started: one.since})
	}
}

// Begun tells how many workloads a node has ever begun, and the containers that run, sorted.
func (s *Swarm) Begun(index int) (begun int, ids []string) {
	for _, n := range s.all() {
		if n.index != index {
			continue
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, one := range n.runs.now {
			ids = append(ids, one.ids...)
		}
		slices.Sort(ids)
		return n.runs.begun, ids
	}
	return 0, nil
}
