package registry

import (
	"context"
	"errors"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// published is a document as another cluster agent published it.
func published(t *testing.T, generation uint64, agent *api.AgentWant, names ...string) *api.Desired {
	t.Helper()
	d := &api.Desired{Node: "n1", Generation: generation, Epoch: 3, Issued: 1, Expires: 2, Agent: agent, Workloads: workloads(names)}
	var err error
	d.Hash, _, err = HashDesired(d)
	must(t, err)
	return d
}

func workloads(names []string) (out []api.Workload) {
	for _, n := range names {
		out = append(out, api.Workload{Name: n, Pod: &api.PodRef{Namespace: "a", Name: n, UID: n}, Containers: []api.Container{{Name: "main", Image: "x"}}})
	}
	return out
}

func setWorkloads(r *Registry, names ...string) (api.Revision, error) {
	return r.SetDesired("n1", func(d *api.Desired) error {
		d.Workloads = workloads(names)
		return nil
	})
}

// Until then the new owner would build on what it has itself: nothing, or what was true when it had the node last.
func TestANewOwnerChangesNothingBeforeItKnowsWhatTheFormerOneTold(t *testing.T) {
	r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
	enrol(t, r, "n1")
	must(t, r.SetOwners(map[string]*api.Owner{"n1": {Replica: "b", Here: true}}))
	b := birth("n1", 7, "b1", 1)
	b.Desired = api.Revision{Generation: 41, Hash: "h"}
	must(t, r.OnBirth("n1", b, true))
	if _, err := setWorkloads(r, "uid"); !errors.Is(err, ErrUnheard) || r.MayTell("n1") {
		t.Fatalf("%v, may tell %t; wanted it to wait for the broker's document", err, r.MayTell("n1"))
	}
	taken, err := r.Adopt(published(t, 41, &api.AgentWant{Version: "1.2.3", Try: 1}, "uid2"))
	if err != nil || !taken || !r.MayTell("n1") {
		t.Fatalf("taken %t, %v, may tell %t", taken, err, r.MayTell("n1"))
	}
	rev, err := setWorkloads(r, "uid", "uid2")
	d, _ := r.DesiredFor("n1", 9)
	if err != nil || rev.Generation != 42 || d.Agent == nil || d.Agent.Version != "1.2.3" || len(d.Workloads) != 2 {
		t.Errorf("%v: generation %d, agent %v, %d workloads", err, rev.Generation, d.Agent, len(d.Workloads))
	}
}

func TestAStaleDocumentDoesNotTakeTheNumberOfANewerOne(t *testing.T) {
	r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
	enrol(t, r, "n1")
	must(t, r.SetOwners(map[string]*api.Owner{"n1": {Replica: "b", Here: true}}))
	r.Heard("n1")
	old, err := setWorkloads(r, "one")
	must(t, err, r.SetOwners(map[string]*api.Owner{"n1": {Replica: "a", URL: "u"}}))
	if _, err := setWorkloads(r, "late"); !errors.Is(err, ErrUnheard) {
		t.Errorf("of a node that was let go: %v", err)
	}
	theirs := published(t, old.Generation+1, nil, "one", "two")
	must(t, r.SetOwners(map[string]*api.Owner{"n1": {Replica: "b", Here: true}}))
	if _, err := setWorkloads(r, "two", "three"); !errors.Is(err, ErrUnheard) {
		t.Errorf("%v; wanted it to wait for the broker's document", err)
	}
	if taken, err := r.Adopt(theirs); err != nil || !taken {
		t.Errorf("taken %t, %v", taken, err)
	}
	if mine, err := setWorkloads(r, "two", "three"); err != nil || mine.Generation != theirs.Generation+1 {
		t.Errorf("%+v, %v; wanted generation %d", mine, err, theirs.Generation+1)
	}
}

// A node takes no generation twice: one of the two contents would never reach it.
func TestTwoContentsOfOneGenerationGetAnotherOne(t *testing.T) {
	r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
	enrol(t, r, "n1")
	mine, err := setWorkloads(r, "one") // told nobody: the link was dead already
	must(t, err)
	if taken, err := r.Adopt(published(t, mine.Generation, nil, "one")); err != nil || taken {
		t.Errorf("its own document comes back: taken %t, %v", taken, err)
	}
	theirs := published(t, mine.Generation, nil, "two")
	for i, want := range []bool{true, false} {
		taken, err := r.Adopt(theirs)
		n := get(t, r, "n1")
		if err != nil || taken != want || n.Desired.Generation != mine.Generation+1 || n.Desired.Hash != theirs.Hash {
			t.Errorf("time %d: taken %t, %v, now %+v", i+1, taken, err, n.Desired)
		}
	}
	d, err := r.DesiredFor("n1", 9)
	if err != nil || d.Generation != mine.Generation+1 || d.Workloads[0].Name != "two" {
		t.Errorf("issued: %+v, %v", d, err)
	}
}

func TestADocumentThatTheNodeHasOtherwiseIsNumberedAnew(t *testing.T) {
	r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
	enrol(t, r, "n1")
	mine, err := setWorkloads(r, "one")
	must(t, err)
	for _, same := range []api.Revision{{}, mine, {Generation: mine.Generation}, {Generation: mine.Generation - 1, Hash: "h"}, {Generation: mine.Generation + 5, Hash: "h"}} {
		must(t, r.Renumber("n1", same))
		if n := get(t, r, "n1"); n.Desired != mine {
			t.Fatalf("the node has %+v: numbered %+v", same, n.Desired)
		}
	}
	must(t, r.Renumber("n1", api.Revision{Generation: mine.Generation, Hash: "another"}))
	d, err := r.DesiredFor("n1", 9)
	if n := get(t, r, "n1"); err != nil || n.Desired.Generation != mine.Generation+1 || d.Generation != mine.Generation+1 || d.Hash != mine.Hash || d.Workloads[0].Name != "one" {
		t.Errorf("%+v, issued %+v, %v", n.Desired, d, err)
	}
	must(t, r.Renumber("nobody", mine))
}

func TestWhoWaitsForADocumentIsWokenWhenThereIsNone(t *testing.T) {
	r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
	enrol(t, r, "n1")
	must(t, r.SetOwners(map[string]*api.Owner{"n1": {Replica: "b", Here: true}}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, watch := r.Watch(ctx)
	defer watch.Close()
	r.Heard("n1", "nobody")
	if c := <-watch.Changes(); c.Item.ID != "n1" || !r.MayTell("n1") {
		t.Errorf("%+v, may tell %t", c, r.MayTell("n1"))
	}
	if _, err := setWorkloads(r, "one"); err != nil {
		t.Error(err)
	}
}
