package update

import "fmt"

// maxStarts is how often a program on trial is started: power may fail meanwhile, or something else kill it.
const maxStarts = 3

// next decides what a start runs: it returns the slot, and the state that has to be kept before it runs. build names the
// installed program, sound tells what is wrong with what a slot holds, nil: nothing. It does no I/O but through sound.
func next(s State, build string, sound func(Slot, Image) error) (State, Slot) {
	if s.Base != build { // the installer or a package has been here
		fresh := State{Seq: s.Seq, Base: build, Floor: s.Floor, Outcomes: s.Outcomes, Trouble: s.Trouble}
		if s.Trial != nil {
			s.end("the installed program was replaced")
			fresh.Outcomes = s.Outcomes
		}
		return fresh, Installed
	}
	if t := s.Trial; t != nil {
		broken := sound(t.Slot, s.Slots[t.Slot])
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
	broken := sound(s.Active, s.Slots[s.Active])
	if broken == nil {
		return s, s.Active
	}
	lost, spare := s.Active, other(s.Active)
	s.Active = Installed
	if img := s.Slots[spare]; img.Proved && sound(spare, img) == nil {
		s.Active = spare
	}
	s.Trouble = fmt.Sprintf("%s cannot run: %v; the %s runs", lost, broken, s.Active)
	return s, s.Active
}

// other is the slot that an update is written to while s is active.
func other(s Slot) Slot {
	if s == SlotA {
		return SlotB
	}
	return SlotA
}
