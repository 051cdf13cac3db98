package order

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
)

var start = time.Unix(1_764_000_000, 0)

func object() *v1alpha1.NodeCommand {
	ttl := int32(60)
	return &v1alpha1.NodeCommand{ObjectMeta: metav1.ObjectMeta{Namespace: "mlsysops", Name: "ping", UID: "0f3c", CreationTimestamp: metav1.Time{Time: start}},
		Spec: v1alpha1.NodeCommandSpec{Node: "pi-a", Verb: "ping", Deadline: "30s", TTLSecondsAfterFinished: &ttl}}
}

func taken(o *v1alpha1.NodeCommand) *v1alpha1.NodeCommand {
	o.Finalizers, o.Annotations = []string{Finalizer}, map[string]string{AnnotationAgent: "a"}
	return o
}

func record(o *v1alpha1.NodeCommand, phases ...api.Phase) *api.CommandRecord {
	at := func(i int) api.Millis { return api.At(start.Add(time.Duration(i) * time.Second)) }
	rec := &api.CommandRecord{ID: ID(o), Node: o.Spec.Node, Verb: o.Spec.Verb, Created: at(0), Deadline: at(30)}
	for i, p := range phases {
		rec.Phase, rec.Final = p, p.Final()
		rec.History = append(rec.History, api.Transition{Phase: p, At: at(i), Side: "cluster", Reason: "r" + fmt.Sprint(i)})
	}
	return rec
}

// name says in a word what a step is.
func name(s Step) string {
	switch {
	case s.Claim:
		return "claim"
	case s.Submit:
		return "submit"
	case s.Cancel:
		return "cancel"
	case s.Release:
		return "release"
	case s.Delete:
		return "delete"
	case s.Status != nil:
		return string(s.Status.Phase)
	case s.Again > 0:
		return "later"
	}
	return "nothing"
}

func TestEachStepOfACommand(t *testing.T) {
	status := func(o *v1alpha1.NodeCommand, phase api.Phase) *v1alpha1.NodeCommand {
		o.Status.ID, o.Status.Phase = ID(o), v1alpha1.Phase(phase)
		if phase.Final() {
			o.Status.Finished = &metav1.Time{Time: start.Add(10 * time.Second)}
		}
		return o
	}
	deleted := func(o *v1alpha1.NodeCommand) *v1alpha1.NodeCommand {
		o.DeletionTimestamp = &metav1.Time{Time: start}
		return o
	}
	bad := object()
	bad.Spec.Deadline = "soon"
	for _, c := range []struct {
		what  string
		view  View
		after time.Duration // since the creation
		want  string
	}{
		{"new", View{Object: object()}, 0, "claim"},
		{"new, of another replica's node", View{Object: object(), Owns: Elsewhere}, 0, "nothing"},
		{"new, of no node", View{Object: object(), Owns: Nobody}, 0, "nothing"},
		{"new, of no node, seen by the leader", View{Object: object(), Owns: Nobody, Leads: true}, 0, "claim"},
		{"claimed", View{Object: taken(object())}, time.Second, "submit"},
		{"claimed here, and the node moved", View{Object: taken(object()), Owns: Elsewhere, Record: record(object(), "queued")}, 0, "queued"},
		{"claimed by another", View{Object: taken(object()), Agent: "b"}, 0, "nothing"},
		{"claimed by another, seen by the leader", View{Object: taken(object()), Agent: "b", Leads: true}, 0, "later"},
		{"claimed by another that is gone", View{Object: taken(object()), Agent: "b", Leads: true}, 2 * time.Hour, "expired"},
		{"running there", View{Object: status(taken(object()), "running"), Agent: "b", Leads: true}, 2 * time.Hour, "timed_out"},
		{"too late", View{Object: object()}, 31 * time.Second, "expired"},
		{"a deadline that is none", View{Object: bad}, 0, "rejected"},
		{"in the journal", View{Object: taken(object()), Record: record(object(), "queued", "delivered")}, 0, "delivered"},
		{"in the journal and told", View{Object: status(taken(object()), "running"), Record: record(object(), "queued")}, 0, "nothing"},
		{"told, and gone from the journal", View{Object: status(taken(object()), "queued")}, time.Second, "later"},
		{"told, gone, and over", View{Object: status(taken(object()), "queued")}, time.Minute, "expired"},
		{"begun, gone, and over", View{Object: status(taken(object()), "interrupted")}, time.Minute, "timed_out"},
		{"final", View{Object: status(taken(object()), "failed"), Record: record(object(), "queued", "failed")}, time.Minute, "release"},
		{"final and let go", View{Object: status(object(), "failed")}, time.Minute, "nothing"},
		{"final and let go, seen by the leader", View{Object: status(object(), "failed"), Leads: true}, time.Minute, "later"},
		{"final for longer than its TTL", View{Object: status(object(), "failed"), Leads: true}, 71 * time.Second, "delete"},
		{"deleted before it was taken", View{Object: deleted(object())}, 0, "nothing"},
		{"deleted while it is open", View{Object: deleted(taken(object())), Record: record(object(), "queued")}, 0, "cancel"},
		{"deleted when it has ended", View{Object: deleted(status(taken(object()), "failed")), Record: record(object(), "queued", "failed")}, 0, "release"},
		{"deleted, never journalled", View{Object: deleted(taken(object()))}, 0, "release"},
	} {
		if c.view.Agent == "" {
			c.view.Agent = "a"
		}
		c.view.Now, c.view.Grace = start.Add(c.after), 15*time.Second
		if got := name(Decide(c.view)); got != c.want {
			t.Errorf("%s: %s; wanted %s", c.what, got, c.want)
		}
	}
}

func TestTheStatusIsTheLifeOfTheCommand(t *testing.T) {
	o := object()
	rec := record(o, "queued", "delivered", "accepted", "running", "failed")
	code := 3
	rec.Status = &api.Status{ID: rec.ID, Phase: "failed", Exit: &code, Output: strings.Repeat("é", api.MaxOutputBytes), Truncated: 7, Result: map[string]any{"n": 1.0}}
	s := Status(o, rec)
	if s.ID != "kube-0f3c" || s.Phase != "failed" || s.Reason != "r4" || *s.ExitCode != 3 || *s.TruncatedBytes != 7 || string(s.Result.Raw) != `{"n":1}` ||
		len(s.History) != 5 || !s.Finished.Equal(&metav1.Time{Time: start.Add(4 * time.Second)}) || len(s.Output) > api.MaxOutputBytes {
		t.Errorf("%.600v", s)
	}
	raw, err := json.Marshal(s.Conditions)
	if err != nil || !strings.Contains(string(raw), `"type":"Finished","status":"True"`) || !strings.Contains(string(raw), `"type":"Succeeded","status":"False"`) {
		t.Errorf("%s, %v", raw, err)
	}
	late := record(o, "queued", "delivered", "accepted", "timed_out")
	late.Status = &api.Status{ID: rec.ID, Phase: "succeeded"}
	late.History = append(late.History, api.Transition{Phase: "timed_out", At: api.At(start.Add(time.Hour)), Side: "node", Reason: "late: succeeded"})
	s = Status(o, late)
	if s.Outcome != "succeeded" || !s.Finished.Equal(&metav1.Time{Time: start.Add(3 * time.Second)}) || s.Conditions[0].Reason != "TimedOut" {
		t.Errorf("outcome %q, finished %v, %+v; wanted what the node said late, and the time of the close", s.Outcome, s.Finished, s.Conditions)
	}
}

// world is an API server that keeps the CRD's rules, a journal, and agents that crash between any two things that they do
// and read copies that are old.
type world struct {
	t        *testing.T
	rng      *rand.Rand
	now      time.Time
	versions []*v1alpha1.NodeCommand // all that there were; the last is the truth
	journal  *api.CommandRecord
	submits  int
	finals   map[v1alpha1.Phase]bool
}

func (w *world) truth() *v1alpha1.NodeCommand { return w.versions[len(w.versions)-1] }

func (w *world) store(o *v1alpha1.NodeCommand) {
	was, is := api.Phase(w.truth().Status.Phase), api.Phase(o.Status.Phase)
	if was != is && was != "" && !was.CanBecome(is) {
		return // the rules refuse it
	}
	o.ResourceVersion = fmt.Sprint(len(w.versions))
	w.versions = append(w.versions, o)
	if is.Final() {
		w.finals[o.Status.Phase] = true
	}
}

// act is one reconcile, as Controller does it.
func (w *world) act() {
	seen := w.versions[max(0, len(w.versions)-1-w.rng.IntN(3))].DeepCopy() // the cache
	step := w.decide(seen)
	if step.Submit {
		seen = w.truth().DeepCopy()
		step = w.decide(seen)
	}
	current := seen.ResourceVersion == w.truth().ResourceVersion
	fails := w.rng.IntN(4) == 0 // the request is lost
	switch {
	case fails && !step.Submit:
	case step.Claim && current:
		o := taken(seen)
		w.store(o)
	case step.Release && current:
		o := seen
		o.Finalizers = nil
		w.store(o)
	case step.Submit:
		w.submit(seen, fails)
	case step.Status != nil:
		o := w.truth().DeepCopy()
		o.Status = *step.Status
		w.store(o)
	}
}

func (w *world) submit(o *v1alpha1.NodeCommand, fails bool) {
	s := closed(o, api.PhaseRejected, "no such node", w.now)
	if w.rng.IntN(4) > 0 { // else the door refuses
		w.submits++
		w.journal = record(o, "queued")
		is := Status(o, w.journal)
		s = &is
	}
	if !fails {
		next := w.truth().DeepCopy()
		next.Status = *s
		w.store(next)
	}
}

func (w *world) decide(o *v1alpha1.NodeCommand) Step {
	return Decide(View{Object: o, Record: w.journal, Agent: "a", Leads: true, Grace: 15 * time.Second, Now: w.now})
}

// live moves the journal's command on.
func (w *world) live() {
	j := w.journal
	if j == nil || j.Final {
		return
	}
	next := []api.Phase{"delivered", "accepted", "running", "interrupted", "succeeded", "failed"}[w.rng.IntN(6)]
	if !w.now.Before(j.Deadline.Time().Add(15 * time.Second)) {
		next = api.PhaseExpired
	}
	if j.Phase.CanBecome(next) {
		step := *j
		step.Phase, step.Final = next, next.Final()
		step.History = append(append([]api.Transition{}, j.History...), api.Transition{Phase: next, At: api.At(w.now), Side: "node"})
		w.journal = &step
	}
}

func TestACommandHasOneEndHoweverOftenItIsLookedAt(t *testing.T) {
	ends := map[v1alpha1.Phase]int{}
	for seed := range uint64(800) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: start, versions: []*v1alpha1.NodeCommand{object()}, finals: map[v1alpha1.Phase]bool{}}
		lost, restored := w.rng.IntN(8) == 0, false
		for range 120 {
			w.act()
			if w.rng.IntN(2) == 0 {
				w.live()
			}
			if lost && w.rng.IntN(40) == 0 && w.journal != nil {
				w.journal, lost, restored = nil, false, true // from a backup: what was ordered since is not known
			}
			w.now = w.now.Add(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
		}
		end := w.truth().Status.Phase
		ends[end]++
		if len(w.finals) != 1 || !api.Phase(end).Final() {
			t.Fatalf("seed %d: ends %v, now %q; wanted exactly one", seed, w.finals, end)
		}
		if w.submits > 1 && !restored {
			t.Fatalf("seed %d: ordered %d times", seed, w.submits)
		}
		if w.journal != nil && w.journal.Phase != api.Phase(end) && !restored {
			t.Fatalf("seed %d: the object says %s, the journal %s", seed, end, w.journal.Phase)
		}
		if end == "rejected" && w.submits > 0 && !restored {
			t.Fatalf("seed %d: it was rejected, and ordered %d times", seed, w.submits)
		}
	}
	for _, want := range []v1alpha1.Phase{"succeeded", "failed", "rejected", "expired"} {
		if ends[want] == 0 {
			t.Errorf("no command ended as %s: %v; the model does not reach it", want, ends)
		}
	}
}
