package cluster

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// commits is how often cluster.db was written: the number of its last transaction, from the newer of bbolt's two meta pages.
func (r *rig) commits() uint64 {
	r.t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.dir, "cluster.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	const head, txid = 16, 48 // of a page, and within a meta
	size := int(binary.NativeEndian.Uint32(raw[head+8:]))
	return max(binary.NativeEndian.Uint64(raw[head+txid:]), binary.NativeEndian.Uint64(raw[size+head+txid:]))
}

func TestNodesThatCannotBeOrderedAreNotedAtOnce(t *testing.T) {
	r := newRig(t, nil)
	spec := api.RolloutSpec{Name: "v150", Version: "1.5.0", URL: "https://releases.example", Batch: "100%"}
	const many = 30
	for i := range many { // they have no verb agent.update
		id := fmt.Sprintf("n%d", i)
		r.online(id, r.enrol(id), 1, false)
		spec.Nodes = append(spec.Nodes, id)
	}
	before := r.commits()
	for calm := time.Now(); time.Since(calm) < time.Second; time.Sleep(20 * time.Millisecond) { // what the nodes said last is written
		if now := r.commits(); now != before {
			before, calm = now, time.Now()
		}
	}
	must[api.Rollout](r, "POST", "/v1/rollouts", spec)
	var got api.Rollout
	eventually(t, "all are refused, and the rollout pauses", func() bool {
		got = must[api.Rollout](r, "GET", "/v1/rollouts/v150", nil)
		return got.State == api.RolloutPaused
	})
	if got.Counts.Failed != many || !strings.Contains(got.Members[0].Reason, "agent.update") {
		t.Errorf("%+v", got)
	}
	if n := r.commits() - before; n < 3 || n >= many {
		t.Errorf("%d writes for %d nodes; wanted a few for all", n, many)
	}
}
