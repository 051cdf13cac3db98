package verb

import (
	"bytes"
	"sync"
)

// ringBytes is how much of its own log an agent keeps in memory.
const ringBytes = 64 << 10

// Ring keeps the end of what is written to it: an agent's own log, for log.tail. The zero value is ready. Safe for
// concurrent use.
type Ring struct {
	mu      sync.Mutex
	data    []byte
	total   int64 // bytes ever written
	changed chan struct{}
}

// Write keeps p; it never fails.
func (r *Ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total += int64(len(p))
	keep := p[max(0, len(p)-ringBytes):]
	if over := len(r.data) + len(keep) - ringBytes; over > 0 {
		r.data = append(r.data[:0], r.data[over:]...)
	}
	r.data = append(r.data, keep...)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
	return len(p), nil
}

// since returns what was written after the first pos bytes as far as it is kept, how many bytes were ever written, and
// a channel that is closed by the next write.
func (r *Ring) since(pos int64) ([]byte, int64, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	fresh := min(r.total-pos, int64(len(r.data)))
	return bytes.Clone(r.data[int64(len(r.data))-fresh:]), r.total, r.changed
}
