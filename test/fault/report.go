package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// Damage may lose data, and then has to be told. What follows is what the product says.

// fresh are the events that were not there when the round began.
func (r *Round) fresh(events []api.EventRecord) []api.EventRecord {
	return slices.DeleteFunc(events, func(e api.EventRecord) bool { return r.told[fmt.Sprint(e.Node, e.At, e.Kind, e.Message)] })
}

// heard notes which events are there, and what was given up, before the faults.
func (r *Round) heard(ctx context.Context) error {
	events, err := r.rig.events(ctx)
	r.told, r.dropped = map[string]bool{}, map[string]api.Dropped{}
	for _, e := range events {
		r.told[fmt.Sprint(e.Node, e.At, e.Kind, e.Message)] = true
	}
	for _, edge := range []string{tierEdge1, tierEdge2} {
		st, serr := r.rig.status(ctx, edge)
		r.dropped[edge] = st.Backlog.Dropped
		err = errors.Join(err, serr)
	}
	return err
}

func (r *Round) note(e api.EventRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := strings.TrimSpace(fmt.Sprintf("%s %s %s: %s %v", e.Node, e.Kind, e.Object, e.Message, e.Data))
	if !slices.Contains(r.outcome.Notes, text) {
		r.outcome.Notes = append(r.outcome.Notes, text)
	}
}

// logTold blames the cluster agent when its telemetry's log was seen to be damaged, and it did not say so.
func (r *Round) logTold(ctx context.Context) error {
	events, err := r.rig.events(ctx)
	if err != nil {
		return err
	}
	told := false
	for _, e := range r.fresh(events) {
		if e.Kind == "telemetry.damaged" {
			r.note(e)
			told = true
		}
	}
	r.rig.mu.Lock()
	hurt := r.rig.hurtLog
	r.rig.mu.Unlock()
	if hurt && !told {
		r.blame("telemetry: the log was damaged, and the cluster agent tells nothing of that")
	}
	return nil
}

// told is what a node agent tells of damage.
type told struct {
	state   bool   // its state began anew
	outbox  bool   // records of its outbox may be gone
	batches uint64 // of these, so many batches that it counts
}

func (r *Round) edgeTold(ctx context.Context, edge string) (t told, err error) {
	events, err := r.rig.events(ctx)
	if err != nil {
		return t, err
	}
	for _, e := range r.fresh(events) {
		if e.Node != edge {
			continue
		}
		switch e.Kind {
		case "state.damaged":
			t.state = true
		case "outbox.corrupt", "outbox.torn":
			t.outbox = true
			if n, err := strconv.ParseUint(e.Data["lost_batches"], 10, 64); err == nil {
				t.batches += n
			}
		default:
			continue
		}
		r.note(e)
	}
	return t, nil
}

// journalLost tells whether the journal of a node agent may lack commands, and blames a loss that was not told.
func (r *Round) journalLost(ctx context.Context, edge string) (bool, error) {
	if r.rig.hurtAt(edge, stateFile).IsZero() {
		return false, nil
	}
	t, err := r.edgeTold(ctx, edge)
	return t.state, err
}
