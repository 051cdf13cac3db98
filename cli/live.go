package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// live orders a command of one node and prints its output as it comes. When the connection breaks it goes on like await:
// the node keeps the end of the output.
func (w *waiting) live(ctx context.Context, body api.CommandRequest) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	node := body.Nodes[0]
	order := body
	order.Nodes = nil
	w.begin(nil)
	err := w.client.Run(ctx, node, order, w.event)
	switch {
	case errors.Is(err, errDone):
		err = nil
	case noRoute(err):
		return w.order(ctx, body)
	case err != nil && ctx.Err() == nil && exitCode(err) != ExitUnreachable, err != nil && len(w.records) == 0 && ctx.Err() != nil:
		return w.unsure(err, body)
	case err != nil && ctx.Err() == nil:
		if len(w.records) == 0 {
			if err := w.recover(ctx, body, err); err != nil {
				return err
			}
		}
		err = w.settle(ctx)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return w.wrap(err)
	}
	if err := w.app.printRest(w.records[0], w.got); err != nil {
		return err
	}
	return w.verdict()
}

// event prints a piece of output or notes a record.
func (w *waiting) event(e *api.RunEvent) error {
	if e.Command == nil {
		out := w.app.Out
		if e.Channel == api.ChannelStderr {
			out = w.app.Err
		}
		n, err := out.Write(e.Data)
		w.got += int64(n)
		return err
	}
	if len(w.records) == 0 {
		w.begin([]api.CommandRecord{*e.Command})
	}
	return w.take(e.Command)
}

// recover finds out whether a command was ordered whose answer never came. First the cluster agent has to be there
// again.
func (w *waiting) recover(ctx context.Context, body api.CommandRequest, cause error) error {
	if _, dial := errors.AsType[*dialError](cause); dial {
		return cause // nothing was asked
	}
	var r api.CommandRecord
	err := w.app.persist(ctx, func(bool) error {
		short, cancel := w.app.within(ctx)
		defer cancel()
		return w.client.Get(short, "/v1/commands/"+url.PathEscape(body.ID), &r)
	})
	if err != nil && exitCode(err) == ExitNotFound {
		return fail(ExitUnreachable, "%w; the command was not taken, ask again", cause)
	}
	if err != nil {
		return w.unsure(err, body)
	}
	w.begin([]api.CommandRecord{r})
	return nil
}

// Run orders a command of node and hands what becomes of it to take, until its end or take returns an error.
func (c *Client) Run(ctx context.Context, node string, req api.CommandRequest, take func(*api.RunEvent) error) error {
	raw, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	return c.events(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(node)+"/run", strings.NewReader(string(raw)), func(data []byte) error {
		var e api.RunEvent
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("read output of %s: %w", node, err)
		}
		return take(&e)
	})
}

// printRest prints what of an outcome was not printed as it came.
func (a *App) printRest(r api.CommandRecord, got int64) error {
	if r.Status == nil {
		return nil
	}
	s := *r.Status
	if got > 0 {
		missing := s.Truncated + int64(len(s.Output)) - got
		if missing <= 0 {
			s.Output, s.Truncated = "", 0
		} else {
			keep := min(missing, int64(len(s.Output)))
			s.Truncated, s.Output = missing-keep, s.Output[int64(len(s.Output))-keep:]
			if _, err := io.WriteString(a.Err, "(what follows did not come as it was printed; the node has kept it)\n"); err != nil {
				return err
			}
		}
	}
	s.Result = maps.Clone(s.Result)
	delete(s.Result, "stream") // why it was cut, which was told
	r.Status = &s
	return a.printOutcome(r)
}
