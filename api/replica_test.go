package api

import "testing"

// TestAClaimThatNobodyCouldSupersedeIsRefused has a node tell the greatest number there is, after which the next is 0.
func TestAClaimThatNobodyCouldSupersedeIsRefused(t *testing.T) {
	b := Birth{Node: "n1", Cluster: "c", Epoch: 1, TimeQuality: TimeSynced}
	for _, c := range []struct {
		claim *Claim
		good  bool
	}{{nil, true}, {&Claim{Term: 1, Owner: "a"}, true}, {&Claim{Term: maxTerm, Owner: "a"}, true}, {&Claim{Term: maxTerm + 1, Owner: "a"}, false},
		{&Claim{Term: 1<<64 - 1, Owner: "a"}, false}, {&Claim{Term: 0, Owner: "a"}, false}, {&Claim{Term: 1}, false}} {
		b.Claim = c.claim
		if err := b.Validate(); (err == nil) != c.good {
			t.Errorf("claim %+v: %v; wanted it to be good: %t", c.claim, err, c.good)
		}
	}
}
