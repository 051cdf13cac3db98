package update

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
)

// Slot is a place of a program.
type Slot string

// The places. Installed is where the installer put the program, and the zero value: it is what runs before the first update, and
// when nothing else can.
const (
	Installed Slot = ""
	SlotA     Slot = "a"
	SlotB     Slot = "b"
)

// String names a place for people.
func (s Slot) String() string {
	if s == Installed {
		return "installed program"
	}
	return "slot " + string(s)
}

// Image is the program that a slot holds.
type Image struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of the file, 64 hexadecimal digits
	Bytes   int64  `json:"bytes"`
	Proved  bool   `json:"proved,omitempty"` // it has once shown its health
	// Counted: the program tells when it has stayed up, so that its starts can be counted. Versions before did not.
	Counted bool   `json:"counted,omitempty"`
	Command string `json:"command,omitempty"` // id of what wanted it there
}

// Trial is a program that has not shown its health yet.
type Trial struct {
	Slot    Slot   `json:"slot"`
	Starts  int    `json:"starts"`            // counted before each
	Command string `json:"command,omitempty"` // id of the command that wanted it; empty: there was none
	From    string `json:"from"`              // the version before
	// WindowSeconds is how long it has, from each start, to show its health.
	WindowSeconds int  `json:"windowSeconds"`
	Offline       bool `json:"offline,omitempty"` // the node had no link when it began
}

// Outcome is what came of an update.
type Outcome struct {
	Command string `json:"command,omitempty"`
	Version string `json:"version"`
	From    string `json:"from"`
	OK      bool   `json:"ok"`
	Reason  string `json:"reason,omitempty"` // of a failure
	Told    bool   `json:"told,omitempty"`   // as an event
	// Doubt: it could not connect, and it is not known yet whether the program before can. Vain: nor could that one, or there was no
	// link before: it says nothing of the version.
	Doubt bool `json:"doubt,omitempty"`
	Vain  bool `json:"vain,omitempty"`
}

// Failure tells of one that was not OK.
func (o *Outcome) Failure() string {
	return "version " + o.Version + " did not prove itself, " + o.From + " is back: " + o.Reason
}

// vain notes that it says nothing of the version, and why.
func (o *Outcome) vain(why string) {
	o.Vain = true
	o.Reason += "; " + why + ", so that this says nothing of " + o.Version
}

// InDoubt reports whether there is something for Judge.
func (s *State) InDoubt() bool {
	for _, o := range s.Outcomes {
		if o.Doubt {
			return true
		}
	}
	return false
}

// keepOutcomes is how many outcomes are kept: commands ask for theirs after a restart.
const keepOutcomes = 8

// State is all that is known of the slots. The zero value is that of a device that was never updated.
type State struct {
	Seq      uint64         `json:"seq"`              // of its writing
	Base     string         `json:"base"`             // which build the installed program was when the slots were begun
	Active   Slot           `json:"active,omitempty"` // what runs unless something is on trial
	Slots    map[Slot]Image `json:"slots,omitempty"`
	Trial    *Trial         `json:"trial,omitempty"`
	Floor    string         `json:"floor,omitempty"` // the greatest version that has shown its health; nothing below it without force
	Outcomes []Outcome      `json:"outcomes,omitempty"`
	Trouble  string         `json:"trouble,omitempty"` // found at a start, not yet told as an event
}

// Outcome returns what came of the update that a command wanted, or the desired document: that may have wanted it more than once, and
// the last counts.
func (s *State) Outcome(command string) (Outcome, bool) {
	for i := len(s.Outcomes) - 1; i >= 0 && command != ""; i-- {
		if o := s.Outcomes[i]; o.Command == command {
			return o, true
		}
	}
	return Outcome{}, false
}

// window is that of the trial.
func (t *Trial) window() time.Duration { return time.Duration(t.WindowSeconds) * time.Second }

// end closes the trial. An empty reason is success.
func (s *State) end(reason string) {
	t := s.Trial
	if t == nil {
		return
	}
	s.Trial = nil
	img := s.Slots[t.Slot]
	o := Outcome{Command: t.Command, Version: img.Version, From: t.From, OK: reason == "", Reason: reason}
	if o.OK {
		img.Proved, img.Counted = true, true // by that program's own word
		s.Slots[t.Slot] = img
		s.Active = t.Slot
		if s.Floor == "" || release.Newer(s.Floor, img.Version) == nil {
			s.Floor = img.Version
		}
	}
	s.note(o)
}

// note keeps an outcome.
func (s *State) note(o Outcome) {
	s.Outcomes = append(s.Outcomes, o)
	if n := len(s.Outcomes); n > keepOutcomes {
		s.Outcomes = s.Outcomes[n-keepOutcomes:]
	}
}

const (
	maxStateBytes = 64 << 10
	sumBytes      = 16
)

// encode writes a state with its checksum in front.
func (s *State) encode() ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode state of updates: %w", err)
	}
	sum := sha256.Sum256(body)
	return append([]byte(hex.EncodeToString(sum[:sumBytes])+" "), body...), nil
}

// errTorn says that a state file is not as it was written.
var errTorn = errors.New("damaged")

// decodeState reads what encode wrote.
func decodeState(raw []byte) (State, error) {
	var s State
	sum, body, ok := strings.Cut(string(raw), " ")
	got := sha256.Sum256([]byte(body))
	if !ok || sum != hex.EncodeToString(got[:sumBytes]) {
		return s, errTorn
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", errTorn, err)
	}
	for _, slot := range []Slot{s.Active, s.trialSlot()} {
		if slot != Installed && slot != SlotA && slot != SlotB {
			return State{}, fmt.Errorf("%w: slot %q; wanted a or b", errTorn, string(slot))
		}
	}
	if s.Trial != nil && s.Trial.Slot == Installed {
		return State{}, fmt.Errorf("%w: the installed program is on trial", errTorn)
	}
	return s, nil
}

func (s *State) trialSlot() Slot {
	if s.Trial == nil {
		return Installed
	}
	return s.Trial.Slot
}
