package update

import (
	"strconv"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Wish is the version that the desired document states, and what it takes to judge it.
type Wish struct {
	api.AgentWant
	Running string  // the version that runs
	Past    Failure // what is kept of the last wish that failed
	Now     time.Time
	Up      time.Duration // how long this agent has run
}

// Failure is what is kept of a wish that failed: the outcomes in State are few, and others push it out.
type Failure struct {
	Try     uint64
	Version string // plain: a device that was removed and is back may be given a try anew
	Reason  string
}

// Encode writes f for the node's store.
func (f Failure) Encode() []byte {
	return []byte(strconv.FormatUint(f.Try, 10) + " " + f.Version + " " + f.Reason)
}

// DecodeFailure reads what Encode wrote. What it cannot read is no failure.
func DecodeFailure(raw []byte) (f Failure) {
	try, rest, _ := strings.Cut(string(raw), " ")
	version, reason, _ := strings.Cut(rest, " ")
	if n, err := strconv.ParseUint(try, 10, 64); err == nil {
		f = Failure{n, version, reason}
	}
	return f
}

// WishID stands for a wish where an update by command has the command's id, which never has a slash.
func WishID(w *api.AgentWant) string {
	return "desired/" + strconv.FormatUint(w.Try, 10) + "/" + Plain(w.Version)
}

// Course is what is to be done about a wish, and how it stands.
type Course struct {
	State   string // of api.AgentStatus
	Reason  string
	Install bool          // bring it into a slot, and put it on trial
	Restart bool          // its trial is kept and has not begun
	Failed  bool          // its trial has just been found to have failed: keep that
	Wait    time.Duration // until the next attempt, after trials that said nothing of the version
}

// Weigh decides about a wish in the state that the slots are in. It does no I/O. A version that failed is tried again when Try has risen, and
// one that runs is never.
func (s *State) Weigh(w *Wish) Course {
	if Plain(w.Running) == Plain(w.Version) {
		return Course{State: api.AgentCurrent}
	}
	if w.Past.Try == w.Try && w.Past.Version == Plain(w.Version) {
		return Course{State: api.AgentFailed, Reason: w.Past.Reason}
	}
	if t := s.Trial; t != nil {
		if t.Command == WishID(&w.AgentWant) {
			return Course{State: api.AgentTrial, Restart: true}
		}
		return Course{State: api.AgentWaiting, Reason: "version " + s.Slots[t.Slot].Version + " is on trial"}
	}
	if o, ended := s.Outcome(WishID(&w.AgentWant)); ended && !o.OK {
		if !o.Vain {
			return Course{State: api.AgentFailed, Reason: o.Failure(), Failed: true}
		}
		if wait := Again(s.vain(o.Command)) - w.Up; wait > 0 {
			return Course{State: api.AgentWaiting, Reason: o.Failure(), Wait: wait}
		}
	}
	open, err := w.Opens(w.Now)
	switch {
	case err != nil:
		return Course{State: api.AgentWaiting, Reason: err.Error()}
	case !open:
		return Course{State: api.AgentWaiting, Reason: "for its window, " + w.Window}
	}
	return Course{State: api.AgentUpdating, Install: true}
}

// vain is how many of the trials of a wish that are remembered said nothing.
func (s *State) vain(command string) (n int) {
	for _, o := range s.Outcomes {
		if o.Command == command && o.Vain {
			n++
		}
	}
	return n
}

// Again is how long to wait after n attempts that came to nothing.
func Again(n int) time.Duration { return min(time.Minute<<min(max(n-1, 0), 10), 6*time.Hour) }

// Plain is a version without the v that some write before it.
func Plain(version string) string { return strings.TrimPrefix(version, "v") }
