// Package rollout decides how a fleet goes to a release, batch by batch, and keeps what was decided. It does not speak to nodes: facts
// go in, orders come out.
package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Fact is what is known of a node.
type Fact struct {
	Known   bool   // there is such a node
	Version string // that it told last
	Command *api.CommandRecord
	// Elsewhere is why this cluster agent cannot order it: another replica acts for it. Empty: it can.
	Elsewhere string
}

// New makes a rollout over nodes, which are dealt into batches in the order of their names.
func New(spec api.RolloutSpec, nodes []string, by string, now time.Time) api.Rollout {
	r := api.Rollout{RolloutSpec: spec, ID: api.NewID(), State: api.RolloutRunning, By: by, Created: api.At(now), Changed: api.At(now)}
	nodes = slices.Compact(slices.Sorted(slices.Values(nodes)))
	size := max(1, spec.BatchOf(len(nodes)))
	for i, n := range nodes {
		r.Members = append(r.Members, api.RolloutNode{Node: n, Batch: i/size + 1, State: api.RolloutWaiting})
	}
	r.Batches = (len(nodes) + size - 1) / size
	count(&r)
	return r
}

// CommandID is the id of the command for a node: the same however often it is ordered.
func CommandID(rollout, node string) string {
	sum := sha256.Sum256([]byte(rollout + "\x00" + node))
	return "rollout-" + hex.EncodeToString(sum[:12])
}

// Decide moves r on by what is known, and returns the nodes to be ordered to update, whose state is updating then. An order that
// is given twice is one. changed tells whether r has to be kept. Facts of nodes that are neither updating nor in the present batch are not asked for.
func Decide(r *api.Rollout, fact func(node string) Fact, now time.Time) (orders []string, changed bool) {
	if r.State.Final() {
		return nil, false
	}
	elsewhere := map[string]bool{}
	for i := range r.Members {
		m := &r.Members[i]
		if m.State == api.RolloutUpdating || m.State == api.RolloutWaiting && m.Batch == max(r.Current, 1) {
			f := fact(m.Node)
			elsewhere[m.Node] = f.Elsewhere != ""
			changed = judge(r, m, f) || changed
		}
	}
	if r.State == api.RolloutRunning {
		var moved bool
		orders, moved = proceed(r, elsewhere, now)
		changed = changed || moved
	}
	if changed {
		r.Changed = api.At(now)
		count(r)
	}
	return orders, changed
}

// judge settles a node whose end is known. What a node runs goes before what is said of its command.
func judge(r *api.Rollout, m *api.RolloutNode, f Fact) bool {
	was := *m
	switch c := f.Command; {
	case !f.Known:
		m.State, m.Reason = api.RolloutSkipped, "node was removed"
	case f.Version == r.Version && (c == nil || c.Final):
		m.State, m.Reason = api.RolloutDone, ""
	case m.State == api.RolloutWaiting && f.Elsewhere != "":
		m.Reason = f.Elsewhere
	case m.State == api.RolloutWaiting || c == nil || !c.Final:
	case c.Phase == api.PhaseSucceeded: // its birth with the new version is under way
		m.State, m.Reason = api.RolloutDone, ""
	default:
		m.State, m.Reason = api.RolloutLost, string(c.Phase)
		if c.Status != nil && c.Status.Reason != "" {
			m.Reason += ": " + c.Status.Reason
		}
	}
	return *m != was
}

// proceed begins the next batch, or the first, when it is time, and orders what waits in the present one and is not elsewhere.
func proceed(r *api.Rollout, elsewhere map[string]bool, now time.Time) (orders []string, changed bool) {
	if r.Current == 0 {
		r.Current, changed = 1, true
	}
	if total, failed, open := tally(r, r.Current); open == 0 {
		return nil, leave(r, total, failed, now) || changed
	}
	if open, err := r.Opens(now); err != nil || !open {
		return nil, changed
	}
	for i := range r.Members {
		if m := &r.Members[i]; m.Batch == r.Current && m.State == api.RolloutWaiting && !elsewhere[m.Node] {
			m.State, m.Command, m.Reason = api.RolloutUpdating, CommandID(r.ID, m.Node), ""
			orders = append(orders, m.Node)
		}
	}
	return orders, changed || len(orders) > 0
}

// leave goes on from a batch that has ended. Of the next one the facts are looked at before anybody is ordered.
func leave(r *api.Rollout, total, failed int, now time.Time) (changed bool) {
	if r.BatchDone == 0 {
		r.BatchDone, changed = api.At(now), true
	}
	ok := total - failed
	switch {
	case total > 0 && ok*100 < r.SuccessPercent*total && r.Accepted < r.Current:
		r.State, r.Reason = api.RolloutPaused, fmt.Sprintf("batch %d: %d of %d succeeded; wanted %d %%", r.Current, ok, total, r.SuccessPercent)
	case r.Current >= r.Batches:
		r.State, r.Reason = verdict(r)
	case now.Sub(r.BatchDone.Time()) < time.Duration(r.PauseSeconds)*time.Second:
		return changed
	default:
		r.Current, r.BatchDone = r.Current+1, 0
	}
	return true
}

// tally counts a batch, without the nodes that are gone.
func tally(r *api.Rollout, batch int) (total, failed, open int) {
	for _, m := range r.Members {
		if m.Batch != batch || m.State == api.RolloutSkipped {
			continue
		}
		total++
		switch m.State {
		case api.RolloutLost:
			failed++
		case api.RolloutWaiting, api.RolloutUpdating:
			open++
		}
	}
	return total, failed, open
}

// verdict is how a rollout ends that has come to its end.
func verdict(r *api.Rollout) (api.RolloutState, string) {
	for b := 1; b <= r.Batches; b++ {
		if total, failed, _ := tally(r, b); total > 0 && (total-failed)*100 < r.SuccessPercent*total {
			return api.RolloutFailed, fmt.Sprintf("%d of %d nodes of batch %d failed", failed, total, b)
		}
	}
	return api.RolloutSucceeded, ""
}

// StateError says that a rollout is not in a state for what was asked.
type StateError struct{ text string }

func (e *StateError) Error() string { return e.text }

func wrongState(r *api.Rollout, what string) error {
	return &StateError{fmt.Sprintf("rollout %s is %s%s", r.Name, r.State, what)}
}

// Resume goes on with a paused rollout. A batch that failed is accepted as it is.
func Resume(r *api.Rollout, now time.Time) error {
	if r.State != api.RolloutPaused {
		return wrongState(r, "; only a paused one can be resumed")
	}
	if r.BatchDone != 0 { // it was judged. What failed while somebody had it paused was not, and is no batch that was accepted
		r.Accepted = r.Current
	}
	r.State, r.Reason, r.Changed = api.RolloutRunning, "", api.At(now)
	return nil
}

// Pause begins no more updates; those that were begun go on.
func Pause(r *api.Rollout, by string, now time.Time) error {
	if r.State != api.RolloutRunning {
		return wrongState(r, "; only a running one can be paused")
	}
	r.State, r.Reason, r.Changed = api.RolloutPaused, "by "+by, api.At(now)
	return nil
}

// Abort ends a rollout. It returns the commands that may still be cancelled.
func Abort(r *api.Rollout, by string, now time.Time) (commands []string, err error) {
	if r.State.Final() {
		return nil, wrongState(r, " already")
	}
	for i := range r.Members {
		switch m := &r.Members[i]; m.State {
		case api.RolloutWaiting:
			m.State, m.Reason = api.RolloutSkipped, "aborted"
		case api.RolloutUpdating:
			commands = append(commands, m.Command)
			m.State, m.Reason = api.RolloutSkipped, "aborted while it was updating; its command tells the end"
		}
	}
	r.State, r.Reason, r.Changed = api.RolloutAborted, "by "+by, api.At(now)
	count(r)
	return commands, nil
}

func count(r *api.Rollout) {
	r.Counts = api.RolloutCounts{}
	for _, m := range r.Members {
		switch m.State {
		case api.RolloutWaiting:
			r.Counts.Waiting++
		case api.RolloutUpdating:
			r.Counts.Updating++
		case api.RolloutDone:
			r.Counts.Succeeded++
		case api.RolloutLost:
			r.Counts.Failed++
		case api.RolloutSkipped:
			r.Counts.Skipped++
		}
	}
}
