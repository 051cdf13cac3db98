package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// verbCancel is the verb by which a node stops another command; its one argument is that command's id.
const (
	verbCancel = "cancel"
	argCancel  = "id"
)

// Cancel asks for the end of a command and returns its record. What was never delivered is cancelled at once. Otherwise
// the node is sent a cancel command, the record stays open until the node has answered or the deadline closes it, and it
// is not delivered again: a command that the node never got then expires. Asking twice changes nothing. A command that
// has ended otherwise is ErrFinal.
func (j *Journal) Cancel(ctx context.Context, id, by string) (api.CommandRecord, error) {
	e, found, err := j.lookup(id)
	if err != nil {
		return api.CommandRecord{}, err
	}
	if !found {
		return api.CommandRecord{}, fmt.Errorf("command %.63q: %w", id, ErrNotFound)
	}
	now := api.At(j.cfg.Now())
	e, what, err := j.change(id, func(e *entry) effect {
		switch {
		case e.Final || e.Halted:
			return ignored
		case e.Phase == api.PhaseQueued:
			e.step(api.Transition{Phase: api.PhaseCancelled, At: now, Side: sideCluster,
				Reason: "cancelled by " + by + " before it was delivered"}, now)
			return advanced
		}
		e.Halted = true
		e.note(api.Transition{Phase: e.Phase, At: now, Side: sideCluster, Reason: "cancel asked for by " + by})
		return refreshed
	})
	if err != nil {
		return api.CommandRecord{}, fmt.Errorf("cancel command %s: %w", id, err)
	}
	if e.Phase == api.PhaseCancelled {
		return e.CommandRecord, nil
	}
	if e.Final {
		return e.CommandRecord, fmt.Errorf("command %s is %s: %w", id, e.Phase, ErrFinal)
	}
	if what.writes() {
		j.cfg.Log.Debug("cancel asked for", agent.KeyCommand, id, agent.KeyNode, e.Node, agent.KeyBy, by)
	}
	return e.CommandRecord, j.orderCancel(ctx, &e, by)
}

// orderCancel sends the cancel command for e, unless one is under way.
func (j *Journal) orderCancel(ctx context.Context, e *entry, by string) error {
	if e.Deadline <= api.At(j.cfg.Now()) {
		return nil // both sides are closing it
	}
	sum := sha256.Sum256([]byte(e.ID))
	o := Order{ID: "cancel-" + hex.EncodeToString(sum[:12]), Node: e.Node, Verb: verbCancel,
		Args: map[string]any{argCancel: e.ID}, By: by, Deadline: e.Deadline.Time()}
	have, found, err := j.lookup(o.ID)
	if err != nil {
		return err
	}
	if found && !have.Final {
		return nil
	}
	if found { // it ended without effect: a new one
		o.ID = api.NewID()
	}
	if _, err := j.Submit(ctx, o); err != nil && !errors.Is(err, ErrConflict) { // taken: another caller was quicker
		return fmt.Errorf("cancel command %s: %w", e.ID, err)
	}
	return nil
}
