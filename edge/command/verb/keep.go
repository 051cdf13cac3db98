package verb

import (
	"context"
	"io"
	"sync"

	"github.com/skerry-edge/skerry/api"
)

// tail keeps the end of what is written to it, at most api.MaxOutputBytes, and passes all of it on to a live stream as
// long as that works. Safe for concurrent use.
type tail struct {
	mu      sync.Mutex
	data    []byte
	dropped int64
}

func (t *tail) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - api.MaxOutputBytes; over > 0 {
		t.dropped += int64(over)
		t.data = append(t.data[:0], t.data[over:]...)
	}
}

func (t *tail) text() (string, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data), t.dropped
}

// channel is a writer into a tail and, while it lasts, onto one channel of a stream.
type channel struct {
	ctx    context.Context // of the action, which the writer lives in
	tail   *tail
	stream Stream // nil: none
	number uint8
	lost   error // why the stream is not written to any more
}

var _ io.Writer = (*channel)(nil)

// Write never fails: a lost stream does not stop the process that writes.
func (c *channel) Write(p []byte) (int, error) {
	c.tail.add(p)
	if c.stream != nil && c.lost == nil {
		_, c.lost = c.stream.Write(c.ctx, c.number, p)
	}
	return len(p), nil
}
