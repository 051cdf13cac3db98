package verb

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// pipe is both ends of a stream: what the verb wrote by channel, and what it will read.
type pipe struct {
	mu      sync.Mutex
	written map[uint8][]byte
	ended   map[uint8]bool
	closed  bool
	why     error
	in      chan []byte
	fail    error         // of every write
	hold    chan struct{} // what every write waits for; nil: nothing
	changed chan struct{}
}

func newPipe() *pipe {
	return &pipe{written: map[uint8][]byte{}, ended: map[uint8]bool{}, in: make(chan []byte, 1024), changed: make(chan struct{}, 1024)}
}

func (p *pipe) Open(context.Context, string) (Stream, error) { return p, nil }

func (p *pipe) Write(ctx context.Context, channel uint8, b []byte) (int, error) {
	if p.hold != nil {
		select {
		case <-p.hold:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return 0, p.fail
	}
	p.written[channel] = append(p.written[channel], b...)
	p.changed <- struct{}{}
	return len(b), nil
}

func (p *pipe) Read(ctx context.Context) (uint8, []byte, error) {
	select {
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	case b, ok := <-p.in:
		if !ok {
			return 0, nil, io.EOF
		}
		return api.ChannelStdin, b, nil
	}
}

func (p *pipe) EndWrite(_ context.Context, channel uint8) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended[channel] = true
	return nil
}

func (p *pipe) Close(ctx context.Context, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.why = true, err
	return ctx.Err()
}

func (p *pipe) got(channel uint8) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.written[channel])
}

func (p *pipe) end() (closed bool, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed, p.why
}

// do checks args against the schema, prepares and acts, as the engine does. A refusal before the action wraps
// command.ErrRejected.
func do(ctx context.Context, v command.Verb, args map[string]any) (command.Outcome, error) {
	if err := command.Check(v.Spec().Args, args); err != nil {
		return command.Outcome{}, errors.Join(command.ErrRejected, err)
	}
	act, err := v.Prepare(args)
	if err != nil {
		return command.Outcome{}, errors.Join(command.ErrRejected, err)
	}
	return act(ctx, command.NewJob(&api.Command{ID: "c1", Args: args}, nil))
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func argv(words ...string) map[string]any {
	list := make([]any, len(words))
	for i, w := range words {
		list[i] = w
	}
	return map[string]any{"argv": list}
}

// until waits for cond, looking each time something changes, for as long as the test may take.
func (p *pipe) until(t *testing.T, cond func() bool) {
	t.Helper()
	for !cond() {
		select {
		case <-p.changed:
		case <-t.Context().Done():
			t.Fatal("test ended")
		}
	}
}

// eventually looks every few milliseconds, for what another process does.
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if cond() {
			return
		}
		if !agent.Wait(t.Context(), 10*time.Millisecond) {
			break
		}
	}
	t.Fatal("did not happen within a minute")
}
