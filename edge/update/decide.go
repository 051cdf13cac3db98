package update

import (
	"fmt"
	"strings"

	"github.com/skerry-edge/skerry/agent"
)

// maxStarts is how often a program on trial is started: power may fail meanwhile, or something else kill it.
const maxStarts = 3

// scene is what next looks at besides the state.
type scene struct {
	build string                  // names the installed program
	sound func(Slot, Image) error // what is wrong with what a slot holds; nil: nothing
	// unclean is how often the active slot was started in this boot without staying up.
	unclean int
}

// next decides what a start runs: it returns the slot, and the state that has to be kept before it runs. It does no I/O but through sound.
func next(s State, at scene) (State, Slot) {
	if s.Base != at.build { // the installer or a package has been here
		fresh := State{Seq: s.Seq, Base: at.build, Floor: s.Floor, Outcomes: s.Outcomes, Trouble: s.Trouble}
		if s.Trial != nil {
			s.end("the installed program was replaced")
			fresh.Outcomes = s.Outcomes
		}
		return fresh, Installed
	}
	if t := s.Trial; t != nil {
		broken := at.sound(t.Slot, s.Slots[t.Slot])
		switch {
		case broken != nil:
			s.end(broken.Error())
		case t.Starts >= maxStarts:
			s.end(fmt.Sprintf("it ended %d times before it had shown its health", t.Starts))
		default:
			again := *t
			again.Starts++
			s.Trial = &again
			return s, t.Slot
		}
	}
	if s.Active == Installed {
		return s, Installed
	}
	broken := at.sound(s.Active, s.Slots[s.Active])
	if broken == nil && at.unclean < maxUnclean {
		return s, s.Active
	}
	lost, spare := s.Active, other(s.Active)
	s.Active = Installed
	back, _, _ := strings.Cut(at.build, " ") // its version comes first
	if img := s.Slots[spare]; img.Proved && at.sound(spare, img) == nil {
		s.Active, back = spare, img.Version
	}
	if broken != nil {
		s.Trouble = fmt.Sprintf("%s cannot run: %v; the %s runs", lost, broken, s.Active)
	} else {
		s.leave(lost, back, at.unclean)
	}
	return s, s.Active
}

// leave gives up the program in a slot that had shown its health, and does not stay up all the same. That is a failure of whatever brought it there.
func (s *State) leave(lost Slot, back string, starts int) {
	img := s.Slots[lost]
	img.Proved = false
	s.Slots[lost] = img
	s.note(Outcome{Command: img.Command, Version: img.Version, From: back,
		Reason: fmt.Sprintf("after its trial it ended %d times in a row, each time within %s", starts, agent.Brief(Steady))})
}

// other is the slot that an update is written to while s is active.
func other(s Slot) Slot {
	if s == SlotA {
		return SlotB
	}
	return SlotA
}
