package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/registry"
)

// Wherever in an error the registry's words are, whoever asked hears what is wrong and nothing of what the registry was doing.
func TestWhatTheRegistryRefusesIsToldWithoutItsOwnWords(t *testing.T) {
	refused := fmt.Errorf("set desired of node n1: %w", &registry.Refusal{Why: errors.New("policy p is there twice")})
	p, ok := errors.AsType[*api.Problem](nodeProblem("n1", refused))
	if !ok || p.Status != 400 || p.Detail != "node n1: policy p is there twice" {
		t.Errorf("%+v", p)
	}
	if p, ok := errors.AsType[*api.Problem](nodeProblem("n1", fmt.Errorf("node %q: %w", "n1", registry.ErrUnknown))); !ok || p.Status != 404 {
		t.Errorf("%+v", p)
	}
	if err := errors.New("disk"); nodeProblem("n1", err) != err {
		t.Error("another error became something else")
	}
}
