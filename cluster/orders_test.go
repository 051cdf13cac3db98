package cluster

import (
	"errors"
	"testing"

	"github.com/skerry-edge/skerry/api"
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
