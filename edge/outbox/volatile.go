package outbox

import (
	"errors"
	"io"
)

// medium is what holds the hot tier: a file on a tmpfs, or memory.
type medium interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
}

// idleVolatileBytes is the idleHotBytes of a hot tier in memory: there is no write to be spared, and there may be
// thousands of them.
const idleVolatileBytes = 2 << 10

// volatileHot is an empty hot tier in memory.
func volatileHot() (*hot, *found) {
	return &hot{path: "memory", file: &memory{}, idle: idleVolatileBytes}, &found{fresh: true, acks: map[lane]uint64{}}
}

// volatile reports whether the hot tier is in this process's memory.
func (h *hot) volatile() bool {
	_, ok := h.file.(*memory)
	return ok
}

// memory is a medium that ends with the process.
type memory struct{ data []byte }

var errBeyond = errors.New("beyond the end")

// ReadAt reads as a file does.
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m.data)) {
		return 0, errBeyond
	}
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// WriteAt writes at the end or over what is there; the hot tier leaves no holes.
func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m.data)) {
		return 0, errBeyond
	}
	m.data = append(m.data[:off], p...)
	return len(p), nil
}

// Truncate shortens.
func (m *memory) Truncate(size int64) error {
	if size < 0 || size > int64(len(m.data)) {
		return errBeyond
	}
	m.data = m.data[:size]
	return nil
}

// Close leaves what is there to the collector.
func (m *memory) Close() error { return nil }
