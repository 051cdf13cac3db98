package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// waiting is one `run --wait` after its command was ordered.
type waiting struct {
	app     *App
	client  *Client
	flags   *runFlags
	timeout time.Duration

	records []api.CommandRecord
	open    map[string]int // index in records, by id
	got     int64          // bytes of output that were printed as they came
	tell    *progress
	waits   waits
}

// errDone ends a watch that has seen all that it was for.
var errDone = errors.New("done")

// maxWatchedIDs bounds how many ids a watch is asked for by name: they go into one request line. Beyond it every command
// is watched.
const maxWatchedIDs = 1000

func (a *App) waiting(c *Client, f *runFlags) *waiting {
	w := &waiting{app: a, client: c, flags: f, timeout: f.timeout, open: map[string]int{}, waits: waits{w: a.Err}}
	if w.timeout == 0 {
		w.timeout = f.deadline + 30*time.Second
	}
	return w
}

// post orders commands.
func (w *waiting) post(ctx context.Context, body api.CommandRequest) ([]api.CommandRecord, error) {
	ctx, cancel := w.app.within(ctx)
	defer cancel()
	var list api.List[api.CommandRecord]
	if err := w.client.Post(ctx, "/v1/commands", body, &list); err != nil {
		return nil, w.unsure(err, body)
	}
	return list.Items, nil
}

// order orders commands and awaits them.
func (w *waiting) order(ctx context.Context, body api.CommandRequest) error {
	records, err := w.post(ctx, body)
	if err != nil {
		return err
	}
	return w.await(ctx, records)
}

// noRoute reports whether err is the answer of a cluster agent that is too old to show what a command prints.
func noRoute(err error) bool {
	p, ok := errors.AsType[*api.Problem](err)
	return ok && p.Code == "" && (p.Status == http.StatusNotFound || p.Status == http.StatusMethodNotAllowed)
}

// await follows commands to their final states, with a line of progress where somebody looks on, and prints their
// outcome.
func (w *waiting) await(ctx context.Context, records []api.CommandRecord) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	w.begin(records)
	err := w.settle(ctx)
	w.tell.end()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return w.wrap(err)
	}
	if err := w.app.outcome(w.records, w.flags); err != nil {
		return err
	}
	return w.verdict()
}

func (w *waiting) begin(records []api.CommandRecord) {
	w.records = records
	for i, r := range records {
		if !r.Final {
			w.open[r.ID] = i
		}
	}
	w.tell = &progress{w: w.app.Err, on: isTerminal(w.app.Err), total: len(records)}
	w.tell.tell(len(records) - len(w.open))
}

// take notes a record; errDone says that it was the last.
func (w *waiting) take(r *api.CommandRecord) error {
	if i, mine := w.open[r.ID]; mine {
		w.records[i] = *r
		if r.Final {
			delete(w.open, r.ID)
			w.tell.tell(len(w.records) - len(w.open))
		} else if waitsFor(r) != "" {
			w.tell.end()
			w.waits.tell(r)
			w.tell.tell(len(w.records) - len(w.open))
		}
	}
	if len(w.open) == 0 {
		return errDone
	}
	return nil
}

// settle watches until no command is open, also past restarts of the cluster agent, which go on with them.
func (w *waiting) settle(ctx context.Context) error {
	if len(w.open) == 0 {
		return nil
	}
	err := w.app.persist(ctx, func(bool) error {
		q := url.Values{"kind": {"command"}, "initial": {"true"}}
		if len(w.open) <= maxWatchedIDs {
			for id := range w.open {
				q.Add("id", id)
			}
		}
		return w.client.Watch(ctx, q, func(ch *api.Change) error {
			if ch.Command == nil {
				return nil
			}
			return w.take(ch.Command)
		})
	})
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// unsure adds to an error of ordering how to find out whether it was taken nevertheless, where that is not certain.
func (w *waiting) unsure(err error, body api.CommandRequest) error {
	_, refused := errors.AsType[*api.Problem](err)
	_, dial := errors.AsType[*dialError](err)
	switch {
	case len(w.records) > 0:
		return w.wrap(err)
	case refused || dial:
		return err
	case errors.Is(err, context.Canceled) && body.ID != "": // Ctrl-C says nothing by itself
		_, _ = write(w.app.Err, "skerry: it may have been taken: skerry describe command "+body.ID+"\n")
		return err
	case body.ID != "":
		return fmt.Errorf("%w; it may have been taken: skerry describe command %s", err, body.ID)
	}
	return fmt.Errorf("%w; they may have been taken: skerry get commands --open", err)
}

// wrap adds the ids to whatever goes wrong once there are some: the commands go on.
func (w *waiting) wrap(err error) error {
	ids := make([]string, 0, len(w.open))
	for _, r := range w.records {
		if _, open := w.open[r.ID]; open {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		return err
	}
	hint := "; it goes on: skerry get commands --open -w, or skerry describe command " + ids[0]
	if len(ids) > 1 {
		hint = fmt.Sprintf("; %d commands go on (skerry get commands --open -w): %s", len(ids), strings.Join(ids[:min(len(ids), 20)], " "))
		if len(ids) > 20 {
			hint += " …"
		}
	}
	if errors.Is(err, context.Canceled) { // Ctrl-C says nothing by itself
		_, _ = write(w.app.Err, "skerry: no longer waiting"+hint+"\n")
		return err
	}
	return fmt.Errorf("%w%s", err, hint)
}

// verdict is nil when all succeeded. The exit code is that of a command without an end before that of a bad end.
func (w *waiting) verdict() error {
	if len(w.open) > 0 {
		return w.wrap(fail(ExitTimeout, "%d of %s without a final state after %s", len(w.open), many(len(w.records), "command"), w.timeout))
	}
	var bad []string
	for _, r := range w.records {
		if r.Phase != api.PhaseSucceeded {
			bad = append(bad, fmt.Sprintf("%s on %s %s: %s", r.Verb, r.Node, r.Phase, lastReason(r)))
		}
	}
	slices.Sort(bad)
	switch {
	case len(bad) == 0:
		return nil
	case len(w.records) == 1:
		return fail(ExitCommand, "%s", bad[0])
	}
	return fail(ExitCommand, "%d of %d commands did not succeed", len(bad), len(w.records))
}
