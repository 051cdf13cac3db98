package broker

import (
	"github.com/skerry-edge/skerry/agent"
)

// idleCrew is how many goroutines of a crew stay when there is nothing to do, and how many buffers.
const idleCrew = 32

// crew does the work of connections that needs much stack: handshakes, decoding, storing. A goroutine keeps the stack
// that its deepest call needed, and a broker has one for each connection; so that one only waits, and has no need of it.
type crew struct {
	hands       *agent.Crew
	spare       chan []byte
	bufferBytes int
}

// newCrew is a crew that keeps nobody once stop is closed, and works all the same.
func newCrew(bufferBytes int, stop <-chan struct{}) *crew {
	return &crew{hands: agent.NewCrew(idleCrew, stop), spare: make(chan []byte, idleCrew), bufferBytes: bufferBytes}
}

// do calls run on another goroutine, at once, and waits for it.
func (c *crew) do(run func()) {
	done := make(chan struct{})
	c.hands.Go(func() {
		run()
		close(done)
	})
	<-done
}

// lend calls use with a buffer that is its own until it returns.
func (c *crew) lend(use func(buf []byte)) {
	var buf []byte
	select {
	case buf = <-c.spare:
	default:
		buf = make([]byte, c.bufferBytes)
	}
	use(buf)
	select {
	case c.spare <- buf:
	default: // enough of them are there
	}
}
