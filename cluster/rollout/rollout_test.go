package rollout

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// fleet is what nodes make of their orders.
type fleet struct {
	t     *testing.T
	r     api.Rollout
	now   time.Time
	facts map[string]Fact
	given map[string]int // orders by node
}

func newFleet(t *testing.T, n int, change func(*api.RolloutSpec)) *fleet {
	t.Helper()
	spec := api.RolloutSpec{Name: "r", Version: "2.0.0", Nodes: []string{"all"}, Batch: "2"}
	if change != nil {
		change(&spec)
	}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, now: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), facts: map[string]Fact{}, given: map[string]int{}}
	var nodes []string
	for i := range n {
		nodes = append(nodes, fmt.Sprintf("n%d", i))
		f.facts[nodes[i]] = Fact{Known: true, Version: "1.0.0"}
	}
	f.r = New(spec, nodes, "alice", f.now)
	return f
}

func (f *fleet) step() []string {
	orders, _ := Decide(&f.r, func(n string) Fact { return f.facts[n] }, f.now)
	for _, n := range orders {
		f.given[n]++
		f.facts[n] = Fact{Known: true, Version: "1.0.0", Command: &api.CommandRecord{ID: CommandID(f.r.ID, n), Phase: api.PhaseRunning}}
	}
	return orders
}

func (f *fleet) ends(node string, phase api.Phase) {
	v := f.facts[node].Version
	if phase == api.PhaseSucceeded {
		v = f.r.Version
	}
	f.facts[node] = Fact{Known: true, Version: v, Command: &api.CommandRecord{Phase: phase, Final: true, Status: &api.Status{Reason: "because"}}}
}

func (f *fleet) want(state api.RolloutState, current int, counts api.RolloutCounts) {
	f.t.Helper()
	if f.r.State != state || f.r.Current != current || f.r.Counts != counts {
		f.t.Fatalf("%s (%s), batch %d, %+v; wanted %s, batch %d, %+v", f.r.State, f.r.Reason, f.r.Current, f.r.Counts, state, current, counts)
	}
}

func TestARolloutGoesBatchByBatchAndOrdersEachNodeOnce(t *testing.T) {
	f := newFleet(t, 5, nil)
	f.facts["n4"] = Fact{Known: true, Version: "2.0.0"} // is there already
	for range 20 {
		for _, n := range f.step() {
			f.ends(n, api.PhaseSucceeded)
		}
	}
	f.want(api.RolloutSucceeded, 3, api.RolloutCounts{Succeeded: 5})
	for n, times := range f.given {
		if times != 1 || n == "n4" {
			t.Errorf("%s was ordered %d times", n, times)
		}
	}
	if len(f.given) != 4 {
		t.Errorf("ordered %v", f.given)
	}
}

func TestTheNextBatchWaitsForThisOneAndForThePause(t *testing.T) {
	f := newFleet(t, 4, func(s *api.RolloutSpec) { s.PauseSeconds = 60 })
	f.step()
	f.ends("n0", api.PhaseSucceeded)
	f.step()
	f.want(api.RolloutRunning, 1, api.RolloutCounts{Waiting: 2, Updating: 1, Succeeded: 1})
	f.ends("n1", api.PhaseSucceeded)
	f.step()
	f.want(api.RolloutRunning, 1, api.RolloutCounts{Waiting: 2, Succeeded: 2})
	f.now = f.now.Add(59 * time.Second)
	f.step()
	f.want(api.RolloutRunning, 1, api.RolloutCounts{Waiting: 2, Succeeded: 2})
	f.now = f.now.Add(time.Second)
	f.step()
	f.step()
	f.want(api.RolloutRunning, 2, api.RolloutCounts{Updating: 2, Succeeded: 2})
}

func TestABatchThatFailsPausesTheRolloutUntilSomebodyGoesOn(t *testing.T) {
	f := newFleet(t, 4, func(s *api.RolloutSpec) { s.SuccessPercent = 60 })
	f.step()
	f.ends("n0", api.PhaseSucceeded)
	f.ends("n1", api.PhaseFailed)
	for range 3 {
		f.step()
	}
	f.want(api.RolloutPaused, 1, api.RolloutCounts{Waiting: 2, Succeeded: 1, Failed: 1})
	if got := f.r.Members[1].Reason; got != "failed: because" {
		t.Errorf("reason %q", got)
	}
	if err := Resume(&f.r, f.now); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		for _, n := range f.step() {
			f.ends(n, api.PhaseSucceeded)
		}
	}
	f.want(api.RolloutFailed, 2, api.RolloutCounts{Succeeded: 3, Failed: 1})
}

func TestAShareThatIsReachedGoesOn(t *testing.T) {
	f := newFleet(t, 4, func(s *api.RolloutSpec) { s.SuccessPercent = 50 })
	for range 6 {
		for i, n := range f.step() {
			f.ends(n, []api.Phase{api.PhaseSucceeded, api.PhaseExpired}[i])
		}
	}
	f.want(api.RolloutSucceeded, 2, api.RolloutCounts{Succeeded: 2, Failed: 2})
}

func TestAPausedRolloutOrdersNobodyAndStillSeesWhatEnds(t *testing.T) {
	f := newFleet(t, 4, nil)
	f.step()
	if err := Pause(&f.r, "alice", f.now); err != nil {
		t.Fatal(err)
	}
	f.ends("n0", api.PhaseSucceeded)
	f.ends("n1", api.PhaseSucceeded)
	if orders := f.step(); len(orders) > 0 {
		t.Errorf("ordered %v", orders)
	}
	f.want(api.RolloutPaused, 1, api.RolloutCounts{Waiting: 2, Succeeded: 2})
	if err := Resume(&f.r, f.now); err != nil {
		t.Fatal(err)
	}
	f.step()
	if orders := f.step(); len(orders) != 2 {
		t.Errorf("ordered %v; wanted the second batch", orders)
	}
}

func TestABatchThatFailsWhileSomebodyHasItPausedIsJudgedWhenItGoesOn(t *testing.T) {
	f := newFleet(t, 4, nil)
	f.step()
	if err := Pause(&f.r, "alice", f.now); err != nil {
		t.Fatal(err)
	}
	f.ends("n0", api.PhaseFailed)
	f.ends("n1", api.PhaseFailed)
	f.step()
	if err := Resume(&f.r, f.now); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if orders := f.step(); len(orders) > 0 {
			t.Errorf("ordered %v after a batch that failed", orders)
		}
	}
	f.want(api.RolloutPaused, 1, api.RolloutCounts{Waiting: 2, Failed: 2})
}

func TestOutsideTheWindowNothingBegins(t *testing.T) {
	f := newFleet(t, 2, func(s *api.RolloutSpec) { s.Window = "22:00-04:00" })
	if orders := f.step(); len(orders) > 0 {
		t.Errorf("ordered %v at noon", orders)
	}
	f.now = f.now.Add(10 * time.Hour)
	if orders := f.step(); len(orders) != 2 {
		t.Errorf("ordered %v at ten", orders)
	}
}

func TestANodeThatAnotherReplicaActsForWaitsUntilItIsHere(t *testing.T) {
	f := newFleet(t, 2, nil)
	f.facts["n1"] = Fact{Known: true, Version: "1.0.0", Elsewhere: "replica b acts for it"}
	if orders := f.step(); len(orders) != 1 || orders[0] != "n0" {
		t.Errorf("ordered %v", orders)
	}
	f.ends("n0", api.PhaseSucceeded)
	f.step()
	f.want(api.RolloutRunning, 1, api.RolloutCounts{Waiting: 1, Succeeded: 1})
	if got := f.r.Members[1].Reason; got != "replica b acts for it" {
		t.Errorf("reason %q; wanted who acts for it", got)
	}
	if orders, changed := Decide(&f.r, func(n string) Fact { return f.facts[n] }, f.now); len(orders) > 0 || changed {
		t.Errorf("ordered %v, changed %t; wanted nothing to be kept while nothing changes", orders, changed)
	}
	f.facts["n1"] = Fact{Known: true, Version: "1.0.0"} // taken over
	if orders := f.step(); len(orders) != 1 || f.r.Members[1].Reason != "" {
		t.Errorf("ordered %v, reason %q", orders, f.r.Members[1].Reason)
	}
	f.ends("n1", api.PhaseSucceeded)
	f.step()
	f.step()
	f.want(api.RolloutSucceeded, 1, api.RolloutCounts{Succeeded: 2})
}

func TestAnAbortTakesBackWhatHasNotEnded(t *testing.T) {
	f := newFleet(t, 4, nil)
	f.step()
	f.ends("n0", api.PhaseSucceeded)
	f.step()
	open, err := Abort(&f.r, "alice", f.now)
	if err != nil || len(open) != 1 || open[0] != CommandID(f.r.ID, "n1") {
		t.Fatalf("%v, %v", open, err)
	}
	f.step()
	f.want(api.RolloutAborted, 1, api.RolloutCounts{Succeeded: 1, Skipped: 3})
	if _, err := Abort(&f.r, "alice", f.now); err == nil {
		t.Error("aborted twice")
	}
	if Pause(&f.r, "a", f.now) == nil || Resume(&f.r, f.now) == nil {
		t.Error("one that is over was paused or resumed")
	}
}

func TestWhatANodeRunsGoesBeforeWhatIsSaidOfItsCommand(t *testing.T) {
	f := newFleet(t, 2, nil)
	f.step()
	f.facts["n0"] = Fact{Known: true, Version: "2.0.0", Command: &api.CommandRecord{Phase: api.PhaseTimedOut, Final: true}}
	f.facts["n1"] = Fact{} // was removed
	f.step()
	f.want(api.RolloutSucceeded, 1, api.RolloutCounts{Succeeded: 1, Skipped: 1})
}

func TestRolloutsAreKeptThroughARestartAndShareNoNode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	open := func() (*Store, *bbolt.DB) {
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(db)
		if err != nil {
			t.Fatal(err)
		}
		return s, db
	}
	s, db := open()
	f := newFleet(t, 3, nil)
	if err := s.Create(f.r); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Change("r", func(r *api.Rollout) (bool, error) {
		_, changed := Decide(r, func(n string) Fact { return f.facts[n] }, f.now)
		return changed, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, db = open()
	defer db.Close()
	r, err := s.Get("r")
	if err != nil || r.Counts.Updating != 2 || r.Members[0].Command != CommandID(f.r.ID, "n0") {
		t.Fatalf("%+v, %v", r, err)
	}
	other := New(api.RolloutSpec{Name: "other", Batch: "1"}, []string{"n2"}, "bob", f.now)
	if err := s.Create(other); !errors.Is(err, ErrConflict) {
		t.Errorf("%v; wanted a conflict over n2", err)
	}
	if _, err := s.Change("r", func(r *api.Rollout) (bool, error) {
		_, err := Abort(r, "bob", f.now)
		return true, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(other); err != nil {
		t.Error(err)
	}
	again := f.r
	again.ID = "other"
	if err := s.Create(again); !errors.Is(err, ErrConflict) {
		t.Errorf("%v; wanted the name of one that is over to stay taken", err)
	}
	if _, err := s.Get("none"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

func TestABadSpecificationNamesItsField(t *testing.T) {
	for name, change := range map[string]func(*api.RolloutSpec){
		"name":     func(s *api.RolloutSpec) { s.Name = "A b" },
		"version":  func(s *api.RolloutSpec) { s.Version = "" },
		"batch":    func(s *api.RolloutSpec) { s.Batch = "200%" },
		"window":   func(s *api.RolloutSpec) { s.Window = "22-4" },
		"selector": func(s *api.RolloutSpec) { s.Selector = "a=b" },
		"success":  func(s *api.RolloutSpec) { s.SuccessPercent = 101 },
	} {
		s := api.RolloutSpec{Name: "r", Version: "2.0.0", Nodes: []string{"n"}}
		change(&s)
		if s.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAnObjectMayHaveTheNameOfItsPredecessorThatIsOver(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := Open(db)
	if err != nil {
		t.Fatal(err)
	}
	made := func(id, by string, object bool, node string) api.Rollout {
		r := New(api.RolloutSpec{Name: "r", Batch: "1"}, []string{node}, by, time.Unix(1, 0))
		r.ID, r.Object = id, object
		return r
	}
	if err := s.Create(made("1", "kube:x/r", true, "n1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(made("2", "kube:x/r", true, "n2")); !errors.Is(err, ErrConflict) {
		t.Errorf("%v while the first goes on", err)
	}
	if _, err := s.Change("r", func(r *api.Rollout) (bool, error) {
		_, err := Abort(r, "x", time.Unix(2, 0))
		return true, err
	}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []api.Rollout{made("2", "kube:y/r", true, "n1"), made("2", "ann", false, "n1")} {
		if err := s.Create(r); !errors.Is(err, ErrConflict) {
			t.Errorf("by %s: %v; wanted a conflict", r.By, err)
		}
	}
	if err := s.Create(made("2", "kube:x/r", true, "n1")); err != nil {
		t.Error(err)
	}
	if r, err := s.Get("r"); err != nil || r.ID != "2" {
		t.Errorf("%+v, %v", r, err)
	}
}
