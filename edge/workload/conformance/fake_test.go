package conformance

import "testing"

func TestTheFakeRuntimeConforms(t *testing.T) {
	Test(t, func(*testing.T) Subject {
		return Subject{Runtime: NewFake("process", "registry.test/words:1"), Image: "registry.test/words:1", Absent: "registry.test/none:1",
			Ask: []string{"cat"}, Say: []string{"echo", "said"}, Fail: []string{"fail", "3"}}
	})
}
