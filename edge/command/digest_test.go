package command

import (
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func TestACommandSignedAnewIsTheSameCommand(t *testing.T) {
	first := api.Command{ID: "c1", Node: "n1", Epoch: 1, Verb: "ping", By: "rest:admin", Issued: 1000, Deadline: 9000}
	again, other := first, first
	again.Epoch, again.Issued = 2, 3000
	other.Deadline = 9001
	sums := map[string]string{}
	for name, c := range map[string]api.Command{"first": first, "again": again, "other": other} {
		sum, err := digest(&c)
		if err != nil {
			t.Fatal(err)
		}
		sums[name] = sum
	}
	if sums["first"] != sums["again"] || sums["first"] == sums["other"] {
		t.Errorf("digests %v; wanted the same when signed anew, another with another deadline", sums)
	}
}
