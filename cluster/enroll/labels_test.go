package enroll

import (
	"maps"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// What a device asks for as it enrols counts as a token's word from then on.
func TestADeviceDoesNotGetByAskingALabelThatItMayNotGiveItself(t *testing.T) {
	const role = "node-role.kubernetes.io/control-plane"
	asked := map[string]string{role: "x", "site": "north", "rack": "1"}
	token := tokenRecord{Token: api.Token{Labels: map[string]string{"rack": "2"}}}
	if got := token.labelled(asked); !maps.Equal(got, map[string]string{"site": "north", "rack": "2"}) {
		t.Errorf("%v", got)
	}
	token.Labels[role] = "given"
	if got := token.labelled(asked); got[role] != "given" {
		t.Errorf("of the token: %v", got)
	}
}
