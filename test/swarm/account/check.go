package account

import (
	"fmt"
	"maps"
	"slices"

	"github.com/skerry-edge/skerry/api"
)

// commandSight is what a view shows of the commands.
type commandSight struct {
	view  string
	whole bool
	lives map[string]Life
}

// checkCommands wants one end of every command, the same on its node and in every view. Where the cluster agent closed a
// command by its clock and the node came to another end, the record must say so.
func checkCommands(orders []Order, truth map[string]Command, sights []commandSight) (bad []Violation) {
	for i := range orders {
		o := &orders[i]
		say := func(format string, args ...any) {
			text := fmt.Sprintf("%s to %s: ", o.Verb, o.Node) + fmt.Sprintf(format, args...)
			for _, s := range sights {
				if why := s.lives[o.ID].Reason; why != "" {
					text += fmt.Sprintf("; %s: %s", s.view, why)
				}
			}
			bad = append(bad, Violation{"command", o.ID, text})
		}
		t, arrived := truth[o.ID]
		if !arrived && refused(o.ID, sights) {
			continue
		}
		switch {
		case !arrived:
		case t.Node != o.Node:
			say("it ran on %s", t.Node)
		case len(t.Finals) != 1:
			say("its node gave the ends %v; wanted one", t.Finals)
		}
		var end api.Phase // in the word of the cluster agent
		var from string
		for _, s := range sights {
			life, ok := s.lives[o.ID]
			if !ok {
				if s.whole && o.Answered {
					say("%s does not show it", s.view)
				}
				continue
			}
			for _, p := range life.Said {
				if !slices.Contains(t.Finals, p) {
					say("%s shows that the node said %s; it said %v", s.view, p, t.Finals)
				}
			}
			if len(life.Finals) == 0 && !life.Due {
				continue
			}
			if len(life.Finals) != 1 {
				say("%s shows the ends %v; wanted one", s.view, life.Finals)
				continue
			}
			if end == "" {
				end, from = life.Finals[0], s.view
			} else if end != life.Finals[0] {
				say("%s shows the end %s, %s shows %s", from, end, s.view, life.Finals[0])
			}
			if !lateElsewhere(o.ID, life.Finals[0], t.Finals, sights) {
				checkWord(&life, t.Finals, func(what string) { say("%s shows %s", s.view, what) })
			}
		}
		if end == "" && o.Answered {
			say("no view shows its end")
		}
	}
	return bad
}

// refused reports whether the cluster agent did not let a request in at all, and said so: then it journals nothing, and only
// who asked is told. A NodeCommand may also say that it came too late to be ordered.
func refused(id string, sights []commandSight) (told bool) {
	for _, s := range sights {
		life, ok := s.lives[id]
		if !ok {
			continue
		}
		if life.Unordered && len(life.Said) == 0 && len(life.Finals) == 1 && life.Finals[0] == api.PhaseExpired {
			told = true
			continue
		}
		if s.whole || len(life.Said) > 0 || len(life.Finals) != 1 || life.Finals[0] != api.PhaseRejected {
			return false
		}
		told = true
	}
	return told
}

// lateElsewhere reports whether a view tells of the same end that it came by the clock, and what the node said afterwards:
// who asked over MQTT is told of the end alone, and never backwards.
func lateElsewhere(id string, end api.Phase, truth []api.Phase, sights []commandSight) bool {
	return len(truth) == 1 && slices.ContainsFunc(sights, func(s commandSight) bool {
		life := s.lives[id]
		return life.Closed && life.Late == truth[0] && len(life.Finals) == 1 && life.Finals[0] == end
	})
}

// checkWord compares the end in the word of the cluster agent with the node's, whose ends are in truth.
func checkWord(life *Life, truth []api.Phase, say func(string)) {
	if len(truth) != 1 || truth[0] == life.Finals[0] {
		return
	}
	if life.Closed && life.Late == truth[0] {
		return // told: closed by the clock, and what the node said afterwards
	}
	say(fmt.Sprintf("the end %s (late: %q); its node says %s", life.Finals[0], life.Late, truth[0]))
}

// checkEffects wants a side effect at most once, exactly once where the node says succeeded, and never for a command that
// the node refused or that nobody gave.
func checkEffects(orders []Order, truth map[string]Command) (bad []Violation) {
	ordered := make(map[string]bool, len(orders))
	for i := range orders {
		ordered[orders[i].ID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(truth)) {
		t := truth[id]
		say := func(format string, args ...any) {
			bad = append(bad, Violation{"effect", id, fmt.Sprintf("%s on %s: ", t.Verb, t.Node) + fmt.Sprintf(format, args...)})
		}
		if !ordered[id] {
			say("nobody ordered it")
		}
		if t.Effects > 1 {
			say("it was done %d times", t.Effects)
		}
		for _, p := range t.Finals {
			switch {
			case p == api.PhaseSucceeded && t.Effects == 0:
				say("it succeeded, and was not done")
			case (p == api.PhaseRejected || p == api.PhaseExpired) && t.Effects > 0:
				say("it is %s, and was done", p)
			}
		}
	}
	return bad
}

// checkDesired wants every node that is online to have, and to report, the generation that it should have.
func checkDesired(view string, nodes []Node, sights map[string]Sight) (bad []Violation) {
	for i := range nodes {
		n := &nodes[i]
		s, ok := sights[n.ID]
		switch {
		case !ok:
			bad = append(bad, Violation{"desired", n.ID, view + " does not show the node"})
		case !n.Online:
		case s.Desired == 0 || s.Desired != n.Desired || s.Reported != n.Desired:
			bad = append(bad, Violation{"desired", n.ID, fmt.Sprintf("%s wants generation %d and heard of %d; the node has %d", view, s.Desired,
				s.Reported, n.Desired)})
		}
	}
	return bad
}
