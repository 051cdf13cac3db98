package registry

import (
	"slices"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// life is one run of a node agent. A machine's boot id is new with every start, and a process starts once: a life that
// has ended never comes back.
type life struct {
	boot    string
	started api.Millis
}

// The bounds of what is remembered and said of twins.
const (
	maxLives      = 4
	twinEvery     = time.Hour
	twinsMessage  = "two devices use this node's identity in turn, a copied card image most likely: each cuts the other's link, and what they report is mixed"
	kindDuplicate = "node.duplicate"
)

// watchTwin notes that n went from one life to another, and raises an alarm when the other had ended before: then there
// are two devices with one identity.
func (r *Registry) watchTwin(n *node, from, to life, now time.Time) {
	if from == to {
		return
	}
	if slices.Contains(n.lives, to) && now.Sub(n.twinAt) >= twinEvery {
		n.twinAt = now
		r.tell(n, api.EventRecord{Class: api.ClassAlarm, Kind: kindDuplicate, Message: twinsMessage})
	}
	n.lives = append(slices.DeleteFunc(n.lives, func(l life) bool { return l == from }), from)
	if len(n.lives) > maxLives {
		n.lives = slices.Delete(n.lives, 0, 1)
	}
}
