package cluster

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/cluster/rest"
)

func TestABadRequestNamesItsFieldOnce(t *testing.T) {
	for fault, want := range map[string]string{
		`deadline "0s": wanted a duration above zero`: `deadline: "0s": wanted a duration above zero`,
		"wanted a duration":                           "deadline: wanted a duration",
	} {
		p, ok := errors.AsType[*api.Problem](badRequest("deadline", errors.New(fault)))
		if !ok || p.Detail != want {
			t.Errorf("%+v; wanted %s", p, want)
		}
	}
}

// TestACommandToManyIsTheSameAsOneToEachAndSharesTransactions has one among many that nobody knows.
func TestACommandToManyIsTheSameAsOneToEachAndSharesTransactions(t *testing.T) {
	r := newRig(t, nil)
	var nodes []string
	for i := range 64 {
		nodes = append(nodes, fmt.Sprintf("n%02d", i))
		if err := r.registry.Enrolled(registry.Enrolment{Node: nodes[i], KeySHA256: nodes[i]}); err != nil {
			t.Fatal(err)
		}
	}
	nodes = slices.Insert(nodes, 10, "nobody")
	before := r.journal.Stats()
	list, err := orders{r.Agent}.Order(t.Context(), api.CommandRequest{Nodes: nodes, Verb: "ping", Deadline: "1h"}, rest.Principal{Name: "ann", Role: api.RoleAdmin})
	if err != nil || len(list) != len(nodes) {
		t.Fatalf("%d commands, %v; wanted %d", len(list), err, len(nodes))
	}
	for i, rec := range list {
		if rec.Node != nodes[i] || rec.Final != (nodes[i] == "nobody") {
			t.Errorf("command %d is for %s, final %v; wanted %s", i, rec.Node, rec.Final, nodes[i])
		}
	}
	if after := r.journal.Stats(); after.Commits-before.Commits > 32 {
		t.Errorf("%d transactions for %d commands", after.Commits-before.Commits, len(nodes))
	}
}
