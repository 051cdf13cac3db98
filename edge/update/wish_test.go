package update

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func wishID(try uint64) string { return WishID(&api.AgentWant{Try: try, Version: "v2.0.0"}) }

func TestADesiredVersionIsInstalledOnceAndAgainOnlyWhenItIsStatedAnew(t *testing.T) {
	slots := map[Slot]Image{SlotA: {Version: "2.0.0"}}
	failed := Outcome{Command: wishID(7), Version: "2.0.0", From: "1.0.0", Reason: "no broker"}
	vain := failed
	vain.Vain = true
	came := Outcome{Command: wishID(7), Version: "2.0.0", From: "1.0.0", OK: true}
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		state State
		wish  Wish
		want  Course
	}{
		"nothing done yet": {State{}, Wish{Running: "1.0.0"}, Course{State: api.AgentUpdating, Install: true}},
		"it runs":          {State{Outcomes: []Outcome{came}}, Wish{Running: "v2.0.0"}, Course{State: api.AgentCurrent}},
		"it ran, and what was installed by hand runs now": {State{Outcomes: []Outcome{came}}, Wish{Running: "1.0.0"},
			Course{State: api.AgentUpdating, Install: true}},
		"its trial has just failed": {State{Outcomes: []Outcome{failed}}, Wish{Running: "1.0.0"},
			Course{State: api.AgentFailed, Failed: true, Reason: "version 2.0.0 did not prove itself, 1.0.0 is back: no broker"}},
		"it failed, after it had run once": {State{Outcomes: []Outcome{came, failed}}, Wish{Running: "1.0.0"},
			Course{State: api.AgentFailed, Failed: true, Reason: "version 2.0.0 did not prove itself, 1.0.0 is back: no broker"}},
		"its trial has just failed, for want of a link that the program before has not either": {State{Outcomes: []Outcome{vain}}, Wish{Running: "1.0.0", Up: 20 * time.Second},
			Course{State: api.AgentWaiting, Reason: vain.Failure(), Wait: 40 * time.Second}},
		"that was the third time": {State{Outcomes: []Outcome{vain, vain, vain}}, Wish{Running: "1.0.0"},
			Course{State: api.AgentWaiting, Reason: vain.Failure(), Wait: 4 * time.Minute}},
		"that was long ago": {State{Outcomes: []Outcome{vain, vain, vain}}, Wish{Running: "1.0.0", Up: 4 * time.Minute},
			Course{State: api.AgentUpdating, Install: true}},
		"it failed long ago": {State{}, Wish{Running: "1.0.0", Past: Failure{Try: 7, Version: "2.0.0", Reason: "no broker"}}, Course{State: api.AgentFailed, Reason: "no broker"}},
		"another version had failed at this try": {State{Outcomes: []Outcome{{Command: "desired/7/1.9.0", Version: "1.9.0"}}},
			Wish{Running: "1.0.0", Past: Failure{Try: 7, Version: "1.9.0", Reason: "no broker"}}, Course{State: api.AgentUpdating, Install: true}},
		"it failed, and is stated anew": {State{Outcomes: []Outcome{{Command: wishID(6)}}}, Wish{Running: "1.0.0", Past: Failure{Try: 6, Version: "2.0.0", Reason: "no broker"}},
			Course{State: api.AgentUpdating, Install: true}},
		"its trial waits for a start": {State{Slots: slots, Trial: &Trial{Slot: SlotA, Command: wishID(7)}}, Wish{Running: "1.0.0"},
			Course{State: api.AgentTrial, Restart: true}},
		"a command's trial": {State{Slots: slots, Trial: &Trial{Slot: SlotA, Command: "c1"}}, Wish{Running: "1.0.0"},
			Course{State: api.AgentWaiting, Reason: "version 2.0.0 is on trial"}},
		"before its window": {State{}, Wish{Running: "1.0.0", AgentWant: api.AgentWant{Window: "22:00-04:00"}},
			Course{State: api.AgentWaiting, Reason: "for its window, 22:00-04:00"}},
		"in its window": {State{}, Wish{Running: "1.0.0", AgentWant: api.AgentWant{Window: "11:00-13:00"}}, Course{State: api.AgentUpdating, Install: true}},
	} {
		c.wish.Version, c.wish.Try, c.wish.Now = "2.0.0", 7, noon
		if got := c.state.Weigh(&c.wish); got != c.want {
			t.Errorf("%s: %+v; wanted %+v", name, got, c.want)
		}
	}
	odd := Wish{AgentWant: api.AgentWant{Version: "2.0.0", Window: "at night", Try: 7}, Running: "1.0.0", Now: noon}
	if got := (&State{}).Weigh(&odd); got.Install || !strings.Contains(got.Reason, "window") {
		t.Errorf("%+v; wanted a window that this version cannot read to be waited for", got)
	}
}

func TestAFailureIsKeptWholeAndGarbageIsNone(t *testing.T) {
	f := Failure{Try: 7, Version: "2.0.0", Reason: "no broker, of two words"}
	if got := DecodeFailure(f.Encode()); got != f {
		t.Errorf("%+v", got)
	}
	for _, raw := range []string{"", "x", "-1 y", " 7"} {
		if got := DecodeFailure([]byte(raw)); got != (Failure{}) {
			t.Errorf("%q: %+v", raw, got)
		}
	}
}
