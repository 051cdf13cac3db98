package fault

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Damage may lose data, and then has to be told. What follows compares the wounds of a round with what the product says.

// perByte is how many samples a byte of a compressed log may hold at most.
const perByte = 8

// lost is what the cluster agent reports as lost of its telemetry in this round. Of a log that was cut off it tells the
// bytes, beyond those that the harness cut off itself.
func (r *Round) lost(ctx context.Context) (account.Lost, error) {
	at := r.rig.hurtAt(tierCluster, "0")
	if at.IsZero() {
		return account.Lost{}, nil
	}
	events, err := r.rig.events(ctx)
	if err != nil {
		return account.Lost{}, err
	}
	r.rig.mu.Lock()
	l := account.Lost{Before: at, Samples: perByte * r.rig.cut[tierCluster]}
	r.rig.mu.Unlock()
	for _, e := range r.fresh(events) {
		if e.Kind != "telemetry.damaged" {
			continue
		}
		r.note(e)
		if f := strings.Fields(strings.Trim(e.Message, "{}")); len(f) > 2 {
			if n, err := strconv.ParseUint(f[2], 10, 64); err == nil {
				l.Samples += perByte * n
			}
		}
	}
	return l, nil
}

// fresh are the events that were not there when the round began.
func (r *Round) fresh(events []api.EventRecord) []api.EventRecord {
	return slices.DeleteFunc(events, func(e api.EventRecord) bool { return r.told[fmt.Sprint(e.Node, e.At, e.Kind, e.Message)] })
}

// heard notes which events are there before the faults.
func (r *Round) heard(ctx context.Context) error {
	events, err := r.rig.events(ctx)
	r.told = map[string]bool{}
	for _, e := range events {
		r.told[fmt.Sprint(e.Node, e.At, e.Kind, e.Message)] = true
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

// edgeDamage is what a node agent told of damage: whether its state began anew, and how many batches may be gone from its
// outbox beyond those that it counts, by the bytes that it could not read.
func (r *Round) edgeDamage(ctx context.Context, edge string) (state bool, batches uint64, err error) {
	events, err := r.rig.events(ctx)
	if err != nil {
		return false, 0, err
	}
	for _, e := range r.fresh(events) {
		if e.Node != edge {
			continue
		}
		switch e.Kind {
		case "state.damaged":
			state = true
		case "outbox.corrupt", "outbox.torn":
			const leastBatch = 200 // bytes
			for _, key := range []string{"bytes", "unreadable_bytes"} {
				if n, err := strconv.ParseUint(e.Data[key], 10, 64); err == nil {
					batches += n/leastBatch + 1
				}
			}
		default:
			continue
		}
		r.note(e)
	}
	return state, batches, nil
}

// journalLost tells whether the journal of a node agent may lack commands, and blames a loss that was not told.
func (r *Round) journalLost(ctx context.Context, edge string) (bool, error) {
	if r.rig.hurtAt(edge, "state.db").IsZero() {
		return false, nil
	}
	told, _, err := r.edgeDamage(ctx, edge)
	return told, err
}
