package command

import (
	"fmt"
	"slices"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// OnStatus takes a status that node sent, which nobody may change afterwards. When it returns nil, what it changed is
// on disk and the message may be acknowledged to the broker; on an error it must not be. What says nothing new, is not
// known or belongs to another node's command is counted and needs no second sending either.
func (j *Journal) OnStatus(node string, s *api.Status) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("status of command from node %s: %w", node, err)
	}
	if j.answered(node, s) {
		j.answer(node, s, true, advanced)
		return nil
	}
	e, found, err := j.lookup(s.ID)
	if err != nil {
		return fmt.Errorf("status of command %s: %w", s.ID, err)
	}
	now := api.At(j.cfg.Now())
	what := ignored
	mine := found && e.Node == node
	if mine {
		// Phases only go forward, so what says nothing new to this version says nothing new to a later one: no
		// transaction for duplicates.
		what = e.take(s, now)
	}
	if what == advanced {
		j.timed(&e, now)
	}
	if what.writes() {
		_, what, err = j.change(s.ID, func(e *entry) effect { return e.take(s, now) })
		if err != nil {
			return fmt.Errorf("journal status of command %s: %w", s.ID, err)
		}
	}
	j.answer(node, s, mine, what)
	return nil
}

// answer counts a status and has a final one acknowledged.
func (j *Journal) answer(node string, s *api.Status, mine bool, what effect) {
	j.mu.Lock()
	j.stats.Statuses++
	switch {
	case !mine:
		j.stats.Unknown++
	case what == ignored:
		j.stats.Ignored++
	case what == conflict:
		j.stats.Conflicts++
	}
	if s.Phase.Final() && (mine || j.cfg.KeepUnknown == 0 || j.cfg.Now().Sub(s.At.Time()) > j.cfg.KeepUnknown) {
		j.acknowledge(node, s.ID)
	}
	j.mu.Unlock()
	if what == conflict {
		j.cfg.Log.Warn("node reports a second end of a command", agent.KeyNode, node, agent.KeyCommand, s.ID,
			agent.KeyState, string(s.Phase))
	}
}

// acknowledge notes id for the next ack of node. One that does not fit is left out: the node offers its final status
// again. Caller holds mu.
func (j *Journal) acknowledge(node, id string) {
	ids := j.acks[node]
	switch {
	case slices.Contains(ids, id):
	case len(ids) >= api.MaxOpenCommands:
		j.stats.AcksDropped++
	default:
		j.acks[node] = append(ids, id)
	}
}

// Acks takes out the ids that node may forget: those whose final status is on disk here, and those unknown here, of
// which it sent a final status since the last call; at most api.MaxOpenCommands. They are meant for api.Ack.Commands.
// An ack that gets lost repairs itself: the node sends the status again and the id is back.
func (j *Journal) Acks(node string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	ids := j.acks[node]
	delete(j.acks, node)
	return ids
}
