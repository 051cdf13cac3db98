package conformance

import (
	"testing"

	"github.com/skerry-edge/skerry/edge/workload"
)

func TestTheFakeRuntimeConforms(t *testing.T) {
	Test(t, func(*testing.T) Subject {
		return Subject{Runtime: NewFake("process", "registry.test/words:1"), Image: "registry.test/words:1", Absent: "registry.test/none:1",
			Ask: []string{"cat"}, Say: []string{"echo", "said"}, Fail: []string{"fail", "3"},
			Other: func() workload.Runtime { return NewFake("process", "registry.test/words:1") }}
	})
}
