package registry

import (
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// twinWatch has a registry with n1, and counts the alarms about devices that share its identity.
func twinWatch(t *testing.T) (*clock, *Registry, func() int) {
	t.Helper()
	c := &clock{now: zero}
	r := newRegistry(t, Config{Now: c.Now})
	must(t, r.Enrolled(Enrolment{Node: "n1", KeySHA256: "k"}))
	return c, r, func() int {
		list, err := r.Events().List(EventFilter{Node: "n1", Class: api.ClassAlarm, Kind: kindDuplicate})
		must(t, err)
		return len(list)
	}
}

func TestTwoDevicesWithOneIdentityAreTold(t *testing.T) {
	c, r, twins := twinWatch(t)
	epoch := uint64(0)
	life := func(boot string, started api.Millis) {
		epoch++
		c.add(time.Second)
		must(t, r.OnBirth("n1", birth("n1", epoch, boot, started), false))
	}
	life("b1", 1)
	life("b1", 1) // the link broke
	life("b1", 2) // the agent was started anew
	life("b2", 3) // the machine was
	life("b2", 3)
	if n := twins(); n != 0 {
		t.Fatalf("%d alarms about one device that was started anew", n)
	}
	life("b1", 2) // which had ended
	life("b2", 3)
	life("b1", 2)
	if n := twins(); n != 1 {
		t.Fatalf("%d alarms about two devices within an hour; wanted one", n)
	}
	c.add(twinEvery)
	life("b2", 3)
	if n := twins(); n != 2 {
		t.Fatalf("%d alarms; wanted another after an hour", n)
	}
}

// Two cards copied from one image count their sessions from the same number: each reconnects after the other, so that their epochs
// go in step.
func TestTwoDevicesOfOneCopiedCardAreTold(t *testing.T) {
	c, r, twins := twinWatch(t)
	say := func(epoch uint64, boot string, started api.Millis) {
		c.add(time.Second)
		must(t, r.OnBirth("n1", birth("n1", epoch, boot, started), false))
	}
	say(1, "b1", 1)
	say(1, "b1", 1) // delivered twice
	say(1, "b1", 2) // one device whose state was put back, so that it counts a session twice
	say(2, "b1", 3) // and was started anew
	say(2, "b1", 3)
	if n := twins(); n != 0 {
		t.Fatalf("%d alarms about one device", n)
	}
	for epoch := uint64(3); epoch < 50; epoch++ {
		say(epoch, "b1", 3)
		say(epoch, "b2", 4)
	}
	if n := twins(); n != 1 {
		t.Errorf("%d alarms about two devices whose sessions go in step; wanted one", n)
	}
}
