package registry

import (
	"errors"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestANodeOfAnotherReplicaIsElsewhereAndNeverLost(t *testing.T) {
	c := &clock{now: zero}
	r := newRegistry(t, Config{Now: c.Now})
	enrol(t, r, "n1")
	must(t, r.OnBirth("n1", birth("n1", 7, "b1", 1), false), r.OnState("n1", state(api.StateOnline, 7), false))
	own := func(o api.Owner) {
		t.Helper()
		must(t, r.SetOwners(map[string]*api.Owner{"n1": &o, "nobody": {Replica: "b"}}))
	}
	own(api.Owner{Replica: "b", URL: "https://b:8443"})
	c.add(20 * 24 * time.Hour)
	r.look(c.Now())
	n := get(t, r, "n1")
	if n.Presence != api.PresenceElsewhere || n.Reason != "replica b acts for it; ask https://b:8443" || n.Owner.Replica != "b" {
		t.Fatalf("%s: %s, owner %+v", n.Presence, n.Reason, n.Owner)
	}
	before := kinds(t, r, "n1")
	own(api.Owner{Replica: "a", Here: true})
	if n = get(t, r, "n1"); n.Presence == api.PresenceOnline {
		t.Error("it is online before anybody of this time has said so")
	}
	must(t, r.OnState("n1", state(api.StateOnline, 7), true)) // the broker repeats it
	if n = get(t, r, "n1"); n.Presence != api.PresenceOnline || !n.Owner.Here {
		t.Errorf("taken over: %s (%s), owner %+v", n.Presence, n.Reason, n.Owner)
	}
	if after := kinds(t, r, "n1"); after != before {
		t.Errorf("events %q; a hand-over is none of the node's: %q before", after, before)
	}
}

func TestADocumentOfAnotherReplicaIsAdoptedAndBuiltOn(t *testing.T) {
	r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
	enrol(t, r, "n1")
	theirs := &api.Desired{Node: "n1", Generation: 7, Epoch: 3, Issued: 1, Expires: 2, Config: map[string]any{"a": "b"}, Claim: &api.Claim{Term: 2, Owner: "b"}}
	if _, err := r.Adopt(theirs); !errors.Is(err, ErrInvalid) {
		t.Errorf("without its hash: %v", err)
	}
	var err error
	theirs.Hash, _, err = HashDesired(theirs)
	must(t, err)
	for i, want := range []bool{true, false} {
		if taken, err := r.Adopt(theirs); err != nil || taken != want {
			t.Errorf("time %d: taken %t, %v; wanted %t", i+1, taken, err, want)
		}
	}
	d, err := r.DesiredFor("n1", 9)
	if err != nil || d.Generation != 7 || d.Epoch != 9 || d.Config["a"] != "b" || d.Claim != nil {
		t.Fatalf("issued as %+v, %v", d, err)
	}
	older := *theirs
	older.Generation, older.Config = 6, nil
	older.Hash, _, err = HashDesired(&older)
	must(t, err)
	if taken, err := r.Adopt(&older); err != nil || taken {
		t.Errorf("an older document: taken %t, %v", taken, err)
	}
	rev, err := r.SetDesired("n1", func(d *api.Desired) error { d.Config["c"] = "d"; return nil })
	if err != nil || rev.Generation != 8 {
		t.Errorf("changed: %+v, %v; wanted generation 8", rev, err)
	}
	if _, err := r.Adopt(&api.Desired{Node: "n2", Generation: 1, Hash: older.Hash}); !errors.Is(err, ErrUnknown) {
		t.Errorf("of a node that is not known: %v", err)
	}
}

func TestLabelsThatPeopleGaveElsewhereReplaceThoseOfHere(t *testing.T) {
	r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
	enrol(t, r, "n1")
	must(t, r.SetLabels("n1", map[string]string{"by": "user", "old": "x"}), r.ReplaceLabels("n1", map[string]string{"by": "other"}))
	n := get(t, r, "n1")
	if n.Labels["by"] != "other" || n.Labels["site"] != "token" || len(n.Labels) != 2 || r.UserLabels("n1")["by"] != "other" {
		t.Errorf("labels %v", n.Labels)
	}
}

func TestANewDocumentIsBeyondWhatTheNodeSaysItHas(t *testing.T) {
	r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
	enrol(t, r, "n1")
	b := birth("n1", 7, "b1", 1)
	b.Desired = api.Revision{Generation: 41, Hash: "h"}
	must(t, r.OnBirth("n1", b, false))
	rev, err := r.SetDesired("n1", func(d *api.Desired) error { d.Config = map[string]any{"a": 1}; return nil })
	if err != nil || rev.Generation != 42 {
		t.Errorf("%+v, %v; wanted generation 42: the node takes no lower one", rev, err)
	}
}
