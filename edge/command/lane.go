package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// conversations is how many commands that are conversations run at once: fewer than a link carries streams. One more is
// rejected as busy.
const conversations = 32

// lane is a bounded queue with a bounded number of places to run. Engine.mu guards it.
type lane struct {
	queue  []*job
	active int
}

func (e *Engine) lane(j *job) *lane {
	switch {
	case j.converses():
		return &e.lanes[2]
	case j.verb.Urgent:
		return &e.lanes[1]
	}
	return &e.lanes[0]
}

// converses reports whether j lasts as long as somebody listens or types.
func (j *job) converses() bool {
	return j.verb.Converses || j.verb.Follows && j.cmd.Args["follow"] == true
}

// waits says what j, which has no place yet, waits for; empty when it has one. mu is held.
func (e *Engine) waits(j *job) string {
	if j.placed || j.closed {
		return ""
	}
	l := e.lane(j)
	var verbs []string
	for _, o := range e.jobs {
		if o.placed && !o.freed && e.lane(o) == l {
			verbs = append(verbs, o.cmd.Verb)
		}
	}
	slices.Sort(verbs)
	return fmt.Sprintf("waits for a place: %d commands run (%s)", l.active, strings.Join(verbs, ", "))
}

// tellWait tells whoever asked that j waits, if it does. Under mu, so that it does not overtake its running.
func (e *Engine) tellWait(j *job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if why := e.waits(j); why != "" {
		st := e.status(j, j.phase, "")
		st.Progress = clip(why, api.MaxReasonBytes)
		e.sender.pass(&st)
	}
}
