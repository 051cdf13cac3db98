package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Phase is where a command stands.
//
//	queued → delivered → accepted → running → succeeded | failed | rejected | cancelled | timed_out | expired
//
// After a restart of the node agent a command that was accepted or running is interrupted, then running or failed by
// its verb's policy.
type Phase string

// The phases. Final ones never change again.
const (
	PhaseQueued      Phase = "queued"      // journalled by the cluster agent
	PhaseDelivered   Phase = "delivered"   // handed to the broker for a connected node
	PhaseAccepted    Phase = "accepted"    // journalled by the node (fsync), before it acts
	PhaseRunning     Phase = "running"     // the verb's side effect may have happened
	PhaseInterrupted Phase = "interrupted" // the node agent restarted in between
	PhaseSucceeded   Phase = "succeeded"
	PhaseFailed      Phase = "failed"
	PhaseRejected    Phase = "rejected"  // never started: bad arguments, not permitted, unknown verb
	PhaseCancelled   Phase = "cancelled" // by a cancel command
	PhaseTimedOut    Phase = "timed_out" // accepted, but not finished by its deadline
	PhaseExpired     Phase = "expired"   // not accepted by its deadline
)

var phaseRank = map[Phase]int{
	PhaseQueued: 1, PhaseDelivered: 2, PhaseAccepted: 3, PhaseRunning: 4, PhaseInterrupted: 5,
	PhaseSucceeded: 9, PhaseFailed: 9, PhaseRejected: 9, PhaseCancelled: 9, PhaseTimedOut: 9, PhaseExpired: 9,
}

// Valid reports whether p is a phase at all.
func (p Phase) Valid() bool { return phaseRank[p] != 0 }

// Final reports whether p is one of the six last phases.
func (p Phase) Final() bool { return phaseRank[p] == 9 }

// CanBecome reports whether a command in phase p may go on to next. A final phase goes nowhere. Phases may be skipped
// (status messages can be lost while a link is down) but never run backwards, except running after interrupted.
func (p Phase) CanBecome(next Phase) bool {
	if !next.Valid() || p.Final() {
		return false
	}
	return phaseRank[next] > phaseRank[p] || p == PhaseInterrupted && next == PhaseRunning
}

// Command is an order to one node, signed. Epoch is the session it was signed for; the cluster agent signs it anew for
// a later one, at Issued. Created is when it was ordered, the same in each delivery; 0 from a cluster agent that does not tell.
// Deadline is mandatory: both sides close the command when it has passed. Args are read by the verb as its schema says and
// never by a shell.
type Command struct {
	ID       string         `json:"id"`
	Node     string         `json:"node"`
	Epoch    uint64         `json:"epoch"`
	Verb     string         `json:"verb"`
	Args     map[string]any `json:"args,omitempty"`
	By       string         `json:"by"` // who asked, for the node's own log
	Issued   Millis         `json:"issued"`
	Created  Millis         `json:"created,omitempty"`
	Deadline Millis         `json:"deadline"`
	Claim    *Claim         `json:"claim,omitempty"` // of the replica that signed it; absent when there is only one cluster agent
}

// Validate checks c as it arrives at a node.
func (c *Command) Validate() error {
	if c.Issued <= 0 || c.Deadline <= c.Issued {
		return fmt.Errorf("issued %d, deadline %d: wanted 0 < issued < deadline", c.Issued, c.Deadline)
	}
	return errors.Join(ValidID("id", c.ID), ValidID("node", c.Node), validVerb(c.Verb), validArgs(c.Args),
		maxLen("by", c.By, MaxLabelBytes), positiveEpoch(c.Epoch), c.Claim.Validate())
}

// Status is one transition of a command. Exit is the exit code where the verb has one. Output is the verb's result or
// the tail of what it printed, at most MaxOutputBytes; Truncated counts the bytes that were left out before it.
type Status struct {
	ID        string         `json:"id"`
	Phase     Phase          `json:"phase"`
	Epoch     uint64         `json:"epoch"`
	At        Millis         `json:"at"`
	Reason    string         `json:"reason,omitempty"`
	Progress  string         `json:"progress,omitempty"`
	Exit      *int           `json:"exit,omitempty"`
	Output    string         `json:"output,omitempty"`
	Truncated int64          `json:"truncated,omitempty"`
	Result    map[string]any `json:"result,omitempty"`
}

// Validate checks s as it arrives from a node, or at an operator.
func (s *Status) Validate() error {
	if !s.Phase.Valid() {
		return fmt.Errorf("phase %q: wanted one of queued, delivered, accepted, running, interrupted, succeeded, failed, "+
			"rejected, cancelled, timed_out, expired", s.Phase)
	}
	return errors.Join(ValidID("id", s.ID), maxLen("reason", s.Reason, MaxReasonBytes), maxLen("progress", s.Progress, MaxReasonBytes),
		maxLen("output", s.Output, MaxOutputBytes))
}

// Request is what an operator publishes to have a command run. Unlike every other message it is typed by people, so a
// field that it does not know is an error.
type Request struct {
	Verb     string         `json:"verb"`
	Args     map[string]any `json:"args,omitempty"`
	Deadline Deadline       `json:"deadline"`
}

// Validate checks r as it arrives from an operator.
func (r *Request) Validate() error {
	if r.Deadline.After <= 0 && r.Deadline.At.IsZero() {
		return errors.New(`deadline is missing; wanted a duration such as "30s" or an RFC 3339 instant`)
	}
	return errors.Join(validVerb(r.Verb), validArgs(r.Args))
}

// Deadline is an instant, or a duration from the moment the request is read. Its text form is RFC 3339 or a Go
// duration; exactly one of the fields is set.
type Deadline struct {
	After time.Duration
	At    time.Time
}

// Resolve returns the instant, given when the request was read.
func (d Deadline) Resolve(now time.Time) time.Time {
	if d.After > 0 {
		return now.Add(d.After)
	}
	return d.At
}

// MarshalText writes the text form.
func (d Deadline) MarshalText() ([]byte, error) {
	if d.After > 0 {
		return []byte(d.After.String()), nil
	}
	return d.At.MarshalText()
}

// UnmarshalText reads the text form.
func (d *Deadline) UnmarshalText(text []byte) error {
	after, err := time.ParseDuration(string(text))
	if err == nil {
		if after <= 0 {
			return fmt.Errorf("deadline %.40q: wanted a duration above zero", text)
		}
		*d = Deadline{After: after}
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf(`deadline %.40q: wanted a duration such as "30s" or an RFC 3339 instant`, text)
	}
	*d = Deadline{At: at}
	return nil
}

func validVerb(verb string) error {
	if err := ValidID("verb", verb); err != nil {
		return err
	}
	return nil
}

// validArgs bounds the arguments by their JSON size; their meaning is the verb's to check.
func validArgs(args map[string]any) error {
	if len(args) == 0 {
		return nil
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("args: %w", err)
	}
	if len(raw) > MaxArgsBytes {
		return fmt.Errorf("args take %d bytes as JSON; wanted at most %d", len(raw), MaxArgsBytes)
	}
	return nil
}
