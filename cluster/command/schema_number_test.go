package command

import (
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func TestANumberOutOfRangeIsToldAsPeopleWriteIt(t *testing.T) {
	most := 10000.0
	schema := &api.Schema{Type: "object", Properties: map[string]api.Schema{"lines": {Type: "integer", Maximum: &most}}}
	if err := checkArgs(schema, map[string]any{"lines": 99999999.0}); err == nil || err.Error() != "args.lines: is 99999999; wanted at most 10000" {
		t.Errorf("error %v", err)
	}
}
