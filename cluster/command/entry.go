package command

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The sides of a transition.
const (
	sideNode    = "node"
	sideCluster = "cluster"
)

// maxHistory bounds the history of one record. Only a node that restarts over and over while it runs one command gets
// there; the middle then makes room.
const maxHistory = 64

// entry is a record as it is stored, with what only the journal needs.
type entry struct {
	api.CommandRecord
	Seq    uint64     `json:"seq"`              // order of submission
	Halted bool       `json:"halted,omitempty"` // somebody asked to cancel it: not delivered again
	Late   api.Phase  `json:"late,omitempty"`   // the node's own phase after a close that it did not make
	Closed api.Millis `json:"closed,omitempty"` // when it became final
	// Passing is of the order: nothing is kept once it is final.
	Passing bool `json:"passing,omitempty"`
}

// effect is what a status did to an entry.
type effect int

const (
	ignored   effect = iota // says nothing new: a duplicate, or overtaken by a later one
	conflict                // a second, different final status of the node: nothing changes
	refreshed               // no transition, but something to store: progress, or the status behind a close
	advanced                // a transition
	late                    // after the close: kept beside the verdict
	ended                   // a transition that was journalled together with the command
)

// writes reports whether the entry changed.
func (e effect) writes() bool { return e >= refreshed }

// newEntry is a command as it is first journalled.
func newEntry(o *Order, now api.Millis) entry {
	e := entry{Passing: o.Passing, CommandRecord: api.CommandRecord{ID: o.ID, Node: o.Node, Verb: o.Verb, Args: o.Args, By: o.By,
		Created: now, Deadline: api.At(o.Deadline)}}
	e.step(api.Transition{Phase: api.PhaseQueued, At: now, Side: sideCluster}, now)
	return e
}

// step appends t and makes its phase the entry's. now is our own clock, which orders the final records.
func (e *entry) step(t api.Transition, now api.Millis) {
	if t.Phase.Final() {
		e.Final, e.Closed = true, now
	}
	e.Phase = t.Phase
	e.note(t)
}

// note appends t to the history, which only ever goes forward in time.
func (e *entry) note(t api.Transition) {
	if n := len(e.History); n > 0 {
		t.At = max(t.At, e.History[n-1].At)
	}
	history := slices.Clone(e.History)
	if len(history) >= maxHistory {
		history = slices.Delete(history, maxHistory/2, maxHistory/2+1)
	}
	e.History = append(history, t)
}

// take applies what the node says. now is the time by our own clock: a node's clock may be off, so its own time of a
// transition counts only as far as it lies between the one before and now.
func (e *entry) take(s *api.Status, now api.Millis) effect {
	if s.Phase == api.PhaseQueued || s.Phase == api.PhaseDelivered || !s.Phase.Valid() {
		return ignored // not a node's to say
	}
	if e.Final {
		return e.takeLate(s, now)
	}
	switch {
	case e.Phase.CanBecome(s.Phase):
		e.Status = s
		e.step(api.Transition{Phase: s.Phase, At: min(s.At, now), Side: sideNode, Reason: s.Reason}, now)
		return advanced
	case e.Phase == s.Phase:
		return e.refresh(s)
	}
	return ignored
}

// takeLate applies what the node says after the close.
func (e *entry) takeLate(s *api.Status, now api.Millis) effect {
	closedByNode := e.Late == "" && e.Status != nil && e.Status.Phase == e.Phase
	switch {
	case closedByNode && s.Phase == e.Phase, e.Late == s.Phase:
		return ignored
	case closedByNode && s.Phase.Final(), e.Late.Final() && s.Phase.Final():
		return conflict
	case closedByNode || e.Late.Final():
		return ignored
	case s.Phase == e.Phase: // it came to the same end by itself
		e.Status, e.Late = s, ""
		return refreshed
	}
	said := e.Late
	if said == "" && e.Status != nil {
		said = e.Status.Phase
	}
	if said != "" && !said.CanBecome(s.Phase) {
		return ignored
	}
	e.Status, e.Late = s, s.Phase
	reason := "late: " + string(s.Phase)
	if s.Reason != "" {
		reason += ": " + s.Reason
	}
	e.note(api.Transition{Phase: e.Phase, At: now, Side: sideNode, Reason: reason[:min(len(reason), api.MaxReasonBytes)]})
	return late
}

// refresh takes news within a phase: progress, or output so far.
func (e *entry) refresh(s *api.Status) effect {
	if e.Status != nil && (s.At < e.Status.At || reflect.DeepEqual(s, e.Status)) {
		return ignored
	}
	e.Status = s
	return refreshed
}

// expire closes e at deadline + grace.
func (e *entry) expire(now api.Millis, grace time.Duration) {
	t := api.Transition{Phase: api.PhaseTimedOut, At: now, Side: sideCluster,
		Reason: fmt.Sprintf("the node accepted it but reported no end by the deadline and %s of grace", grace)}
	switch e.Phase {
	case api.PhaseQueued:
		t.Phase, t.Reason = api.PhaseExpired, "the node was not connected before the deadline"
	case api.PhaseDelivered:
		t.Phase, t.Reason = api.PhaseExpired, "the node did not accept it by the deadline"
		if e.Halted {
			t.Reason = "cancel was asked for before the node accepted it, and it never did"
		}
	}
	if e.Status != nil && e.Status.Progress != "" { // the best that is known of why, such as a disk that is full
		reason := t.Reason + "; it last said: " + e.Status.Progress
		t.Reason = strings.ToValidUTF8(reason[:min(len(reason), api.MaxReasonBytes)], "")
	}
	e.step(t, now)
}
