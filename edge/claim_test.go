package edge

import (
	"errors"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/enrolment"
)

func TestANodeNeverGoesBackToASmallerClaim(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	claim := func(term uint64, owner string) *api.Claim { return &api.Claim{Term: term, Owner: owner} }
	for _, step := range []struct {
		claim *api.Claim
		obeys bool
	}{
		{nil, true}, // the only cluster agent of its fleet has none
		{claim(3, "b"), true},
		{claim(3, "b"), true},
		{nil, false},
		{claim(2, "z"), false},
		{claim(3, "a"), false}, // two claimed at once: the greater name counts
		{claim(3, "c"), true},
		{claim(3, "b"), false},
		{claim(4, "a"), true},
		{claim(3, "c"), false},
	} {
		err := a.obey(step.claim)
		if (err == nil) != step.obeys || err != nil && !errors.Is(err, mqtt.ErrDiscard) {
			t.Errorf("claim %+v: %v; wanted obeyed %t", step.claim, err, step.obeys)
		}
	}
	if b := a.birth(); b.Claim == nil || *b.Claim != *claim(4, "a") {
		t.Errorf("birth tells claim %+v", b.Claim)
	}
	a.obeys.top = nil // as after a restart
	if err := a.loadClaim(); err != nil {
		t.Fatal(err)
	}
	if err := a.obey(claim(3, "c")); err == nil {
		t.Error("after a restart a smaller claim is obeyed")
	}
}

// TestWhoClaimsANodeAnewHearsWhatNobodyAcknowledged has the owner that the node has claim it again, as after it lost touch: it
// did not listen meanwhile.
func TestWhoClaimsANodeAnewHearsWhatNobodyAcknowledged(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	for i, step := range []struct {
		claim api.Claim
		due   bool
	}{{api.Claim{Term: 1, Owner: "a"}, true}, {api.Claim{Term: 1, Owner: "a"}, false}, {api.Claim{Term: 2, Owner: "a"}, true}, {api.Claim{Term: 3, Owner: "b"}, true}} {
		if err := a.obey(&step.claim); err != nil {
			t.Fatal(err)
		}
		due := false
		select {
		case <-a.resendDue:
			due = true
		default:
		}
		if due != step.due {
			t.Errorf("claim %d, %+v: sent again: %t; wanted %t", i, step.claim, due, step.due)
		}
	}
}

func TestADamagedClaimKeepsNoNodeFromStarting(t *testing.T) {
	for _, kept := range []string{`{"term":`, `{"term":18446744073709551615,"owner":"a"}`, `{"term":3,"owner":"A A"}`} {
		a := built(t, (&enrolment.Service{}).Start(t))
		if err := a.store.SetClaim([]byte(kept)); err != nil {
			t.Fatal(err)
		}
		if err := a.loadClaim(); err != nil {
			t.Fatal(err)
		}
		if err := a.obey(&api.Claim{Term: 1, Owner: "a"}); err != nil {
			t.Errorf("after %s an order is refused: %v", kept, err)
		}
	}
}
