package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// quietFor is how long a stream of events may say nothing: the cluster agent sends a sign of life every 20 s, so that
// three are missing.
const quietFor = 65 * time.Second

// errSlow is why a request was given up: its answer did not come in time.
type errSlow struct{ after time.Duration }

func (e errSlow) Error() string {
	return fmt.Sprintf("no answer from the cluster agent within %s", e.after)
}

// dialError is a request that never reached anybody.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// Watch follows /v1/watch (server-sent events) and hands each change to take until ctx ends, the server closes, or take
// returns an error.
func (c *Client) Watch(ctx context.Context, query url.Values, take func(*api.Change) error) error {
	return c.events(ctx, http.MethodGet, "/v1/watch?"+query.Encode(), nil, func(data []byte) error {
		var change api.Change
		if err := json.Unmarshal(data, &change); err != nil {
			return fmt.Errorf("read watch: %w", err)
		}
		return take(&change)
	})
}

// events makes a request whose answer is server-sent events, and hands the data of each to take.
func (c *Client) events(ctx context.Context, method, path string, body io.Reader, take func([]byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(c.patience, func() { cancel(errSlow{c.patience}) })
	defer func() { timer.Stop() }()
	resp, err := c.Do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	failed := false
	for lines.Scan() {
		timer.Stop()
		timer = time.AfterFunc(quietFor, func() { cancel(errSlow{quietFor}) })
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			failed = failed || lines.Text() == "event: error"
			continue
		}
		if failed {
			problem := &api.Problem{}
			if err := json.Unmarshal([]byte(data), problem); err != nil {
				return fmt.Errorf("read events: %w", err)
			}
			return problem
		}
		if err := take([]byte(data)); err != nil {
			return err
		}
	}
	if slow, ok := errors.AsType[errSlow](context.Cause(ctx)); ok {
		return c.explain(slow)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := lines.Err(); err != nil {
		return c.explain(err)
	}
	return fail(ExitUnreachable, "the cluster agent closed the connection")
}
