package registry

import (
	"errors"
	"fmt"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func TestARefusalIsInvalidAndSaysWhyOnItsOwn(t *testing.T) {
	r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
	enrol(t, r, "n1")
	many := map[string]string{}
	for i := range api.MaxLabels + 1 {
		many[fmt.Sprint("l", i)] = "x"
	}
	twice := func(d *api.Desired) error {
		d.Policies = []api.Policy{{Name: "p"}, {Name: "p"}}
		return nil
	}
	_, desired := r.SetDesired("n1", twice)
	for why, err := range map[string]error{
		"labels: there would be 65; wanted at most 64": r.SetLabels("n1", many),
		"policy p is there twice":                      desired,
	} {
		refused, ok := errors.AsType[*Refusal](err)
		if !ok || refused.Why.Error() != why || !errors.Is(err, ErrInvalid) || !errors.Is(err, refused.Why) {
			t.Errorf("%v; wanted an ErrInvalid because %q", err, why)
		}
	}
	if _, ok := errors.AsType[*Refusal](r.SetLabels("n1", map[string]string{"bad label": "x"})); !ok {
		t.Error("a bad label is no refusal")
	}
	if err := r.SetLabels("n2", many); errors.Is(err, ErrInvalid) || !errors.Is(err, ErrUnknown) {
		t.Errorf("of a node that is not known: %v", err)
	}
}
