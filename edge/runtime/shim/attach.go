package shim

import (
	"slices"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
)

// maxBehind is how many bytes one who is attached may be behind before it is let go: the container does not wait for it.
const maxBehind = 256 << 10

// attachment is one who sees what the container prints.
type attachment struct {
	queue  []piece
	behind int
	more   chan struct{} // room for one
	slow   bool
}

type piece struct {
	kind byte
	data []byte
}

// publish gives what the container printed to all who are attached.
func (s *supervisor) publish(stream string, chunk []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.attached {
		if a.behind+len(chunk) > maxBehind {
			a.slow = true
			delete(s.attached, a)
		} else {
			a.queue = append(a.queue, piece{frameOf(stream), slices.Clone(chunk)})
			a.behind += len(chunk)
		}
		select {
		case a.more <- struct{}{}:
		default:
		}
	}
}

// attach ties the caller to the streams of the container until one of both ends.
func (s *supervisor) attach(c *caller, r *bundle.Request) error {
	a := &attachment{more: make(chan struct{}, 1)}
	s.mu.Lock()
	s.attached[a] = struct{}{}
	input, term := s.stdin, s.term
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.attached, a)
		s.mu.Unlock()
	}()
	if !r.Stdin {
		input = nil
	}
	if err := c.tell(bundle.FrameAnswer, bundle.Answer{}); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		c.listen(input, term, s.closeStdin)
		close(gone)
	}()
	for {
		select {
		case <-gone:
			return nil
		case <-a.more:
		case <-s.over:
			s.drain(c, a)
			_ = c.tell(bundle.FrameExit, bundle.Exit{}) // it has gone, or knows
			return nil
		}
		if !s.drain(c, a) {
			return nil
		}
	}
}

// drain sends what waits for a; false when it is to be let go.
func (s *supervisor) drain(c *caller, a *attachment) bool {
	s.mu.Lock()
	queue, slow := a.queue, a.slow
	a.queue, a.behind = nil, 0
	s.mu.Unlock()
	for _, p := range queue {
		if c.send(p.kind, p.data) != nil {
			return false
		}
	}
	if slow {
		_ = c.tell(bundle.FrameExit, bundle.Exit{Error: "output was taken too slowly, some of it is in the log alone"})
	}
	return !slow
}

// closeStdin ends what the container reads, for good. A caller that goes away without saying so leaves it open.
func (s *supervisor) closeStdin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin != nil && !s.spec.TTY {
		_ = s.stdin.Close() // once: it is forgotten
		s.stdin = nil
	}
}
