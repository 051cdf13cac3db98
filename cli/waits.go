package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// maxToldWaits bounds the lines of one run on many nodes.
const maxToldWaits = 20

// waits tells what commands wait for before they begin, such as a place on their node: a line each, and another one only when
// that has changed.
type waits struct {
	w     io.Writer
	told  map[string]string // by id
	lines int
}

// line is what is to be told of r now; empty: nothing.
func (t *waits) line(r *api.CommandRecord) string {
	why := waitsFor(r)
	if why == "" || t.told[r.ID] == why || t.lines > maxToldWaits {
		return ""
	}
	if t.told == nil {
		t.told = map[string]string{}
	}
	t.told[r.ID] = why
	if t.lines++; t.lines > maxToldWaits {
		return "skerry: more commands wait: skerry get commands --open\n"
	}
	return fmt.Sprintf("skerry: %s on %s %s\n", r.Verb, r.Node, printable(why))
}

func (t *waits) tell(r *api.CommandRecord) {
	if line := t.line(r); line != "" {
		_, _ = write(t.w, line) // one who cannot be told is served all the same
	}
}

// waitsFor is what the node said that r waits for; empty: it has begun, or nothing is known.
func waitsFor(r *api.CommandRecord) string {
	if begun(r) || r.Status == nil { // what a running one says is how far it is
		return ""
	}
	return r.Status.Progress
}

// errand is a command that the cluster agent orders for a request of another kind, by the argument that says what it is about.
type errand struct{ node, verb, key, subject string }

// waits reports whether r is e and has not begun. Who asks for the same at the same time waits for the same.
func (e errand) waits(r *api.CommandRecord) bool {
	return r.Verb == e.verb && r.Args[e.key] == e.subject && !begun(r)
}

func begun(r *api.CommandRecord) bool { return r.Final || r.Phase == api.PhaseRunning }

// An errand whose answer has not begun after quietAtFirst is looked for, quietTries times at growing intervals: by then it was
// ordered, and either waits or has begun.
const (
	quietAtFirst = time.Second
	quietTries   = 5
)

// meanwhile tells what e waits for until stop is called. What goes wrong here is left to the request itself.
func (a *App) meanwhile(ctx context.Context, c *Client, e errand) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		pause := quietAtFirst
		for range quietTries {
			if !agent.Wait(ctx, pause) {
				return
			}
			pause *= 2
			if id := a.find(ctx, c, e); id != "" {
				a.tellWaits(ctx, c, id)
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// find is the id of the newest command that e waits for; empty: there is none.
func (a *App) find(ctx context.Context, c *Client, e errand) string {
	ctx, cancel := a.within(ctx)
	defer cancel()
	var list api.List[api.CommandRecord]
	if c.Get(ctx, "/v1/commands?"+url.Values{"node": {e.node}, "open": {"true"}}.Encode(), &list) != nil {
		return ""
	}
	for _, r := range list.Items {
		if e.waits(&r) {
			return r.ID
		}
	}
	return ""
}

// tellWaits tells what a command waits for until it has begun.
func (a *App) tellWaits(ctx context.Context, c *Client, id string) {
	told := &waits{w: a.Err}
	_ = c.Watch(ctx, url.Values{"kind": {"command"}, "id": {id}, "initial": {"true"}}, func(ch *api.Change) error {
		if ch.Command == nil {
			return nil
		}
		if begun(ch.Command) {
			return errDone
		}
		told.tell(ch.Command)
		return nil
	})
}
