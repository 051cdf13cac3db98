package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/skerry-edge/skerry/api"
)

// Restart is what becomes of a verb's command when the agent restarted while it ran.
type Restart uint8

// The policies. The zero value is the careful one.
const (
	Fail       Restart = iota // what it did is unknown and must not be done twice
	Retry                     // doing it again does no harm: it runs anew while its deadline allows
	ByRestart                 // a restart of the agent is what it was for: it has succeeded
	ByNewBoot                 // a reboot is what it was for: it has succeeded if the boot id changed
	Resume                    // it restarts the agent on its way: it runs anew, however often, and finds out itself how far it came
	policyEnds                // how many there are
)

// causes reports whether the command causes a restart of the agent, so that a stop need not wait for it.
func (r Restart) causes() bool { return r == ByRestart || r == ByNewBoot || r == Resume }

// again reports whether the command runs anew after a restart.
func (r Restart) again() bool { return r == Retry || r == Resume }

// Spec declares a verb.
type Spec struct {
	api.Verb
	Restart Restart
	Urgent  bool // does not wait behind the commands that are not
	// Converses says that it lasts as long as somebody listens or types: it has places of its own, so that neither other
	// commands nor urgent ones wait behind it.
	Converses bool
	Follows   bool // it converses when its argument follow is true
}

// Verb is something the node can be told to do. Safe for concurrent use.
type Verb interface {
	// Spec is the same on every call.
	Spec() Spec
	// Prepare reads args, which fit the schema, and checks permissions, without any effect. An error is for whoever
	// asked and means that the command is rejected. It is called again right before the action is, so that permissions
	// are those of that moment.
	Prepare(args map[string]any) (Action, error)
}

// Action does what a command asks. It ends soon after ctx, or is abandoned; context.Cause tells why it should. An error
// fails the command and is shown to whoever asked; one that wraps ErrRejected rejects it, and then nothing was done.
type Action func(ctx context.Context, job *Job) (Outcome, error)

// Cleaner is a Verb that can leave something behind when the agent is killed under it. Clean is called once after the
// restart, before any command runs.
type Cleaner interface {
	Clean(id string, args map[string]any) error
}

// ErrRejected marks an action's error that says that nothing was done because the command must not or cannot be done.
var ErrRejected = errors.New("rejected")

// Outcome is what an action has to show, also when it failed. Output is cut to its last api.MaxOutputBytes; Truncated
// counts what the action itself left out before it.
type Outcome struct {
	Exit      *int
	Output    string
	Truncated int64
	Reason    string // of a success that needs one
	Result    map[string]any
}

// Job is the command that an action works for.
type Job struct {
	Command  *api.Command // not to be changed
	Attempts int          // how often a restart interrupted it before
	report   func(string)
}

// NewJob returns a job whose progress goes to report, which may be nil: for those who test verbs.
func NewJob(cmd *api.Command, report func(string)) *Job {
	if report == nil {
		report = func(string) {}
	}
	return &Job{Command: cmd, report: report}
}

// Progress tells whoever asked how far the action is. At most one text a second is sent, others are dropped.
func (j *Job) Progress(text string) { j.report(text) }

// Decode reads args into a verb's own type; a field that T does not have is an error.
func Decode[T any](args map[string]any) (T, error) {
	if len(args) == 0 {
		var none T
		return none, nil
	}
	var out T
	raw, err := json.Marshal(args)
	if err != nil {
		return out, fmt.Errorf("args: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		return out, fmt.Errorf("args: %w", err)
	}
	return out, nil
}
