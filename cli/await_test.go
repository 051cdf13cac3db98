package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// Output is missing also when only the deadline passed: nothing is said of a connection that nobody saw break.
func TestOutputThatDidNotComeAsItWasPrintedIsPrintedAtTheEnd(t *testing.T) {
	var out, errs bytes.Buffer
	a := &App{Out: &out, Err: &errs}
	r := api.CommandRecord{ID: "c1", Node: "n1", Verb: "exec", Phase: api.PhaseTimedOut, Final: true,
		Status: &api.Status{ID: "c1", Phase: api.PhaseTimedOut, Output: "one two\n"}}
	if err := a.printRest(r, 4); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "two\n") || errs.String() != "(what follows did not come as it was printed; the node has kept it)\n" {
		t.Errorf("printed %q, said %q", out.String(), errs.String())
	}
}
