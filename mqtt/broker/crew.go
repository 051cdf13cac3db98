package broker

import (
	"sync"
	"sync/atomic"
)

// idleCrew is how many goroutines of a crew stay when there is nothing to do.
const idleCrew = 32

// crew does the work of connections that needs much stack: handshakes, decoding, storing. A goroutine keeps the stack
// that its deepest call needed, and a broker has one for each connection; so that one only waits, and has no need of it.
type crew struct {
	jobs        chan job
	idle        atomic.Int32
	bufferBytes int
	wg          sync.WaitGroup
}

type job struct {
	run  func(buf []byte)
	done chan<- struct{}
}

func newCrew(bufferBytes int) *crew { return &crew{jobs: make(chan job), bufferBytes: bufferBytes} }

// do calls run on another goroutine, at once, and waits for it. buf is run's until it returns.
func (c *crew) do(run func(buf []byte)) {
	done := make(chan struct{})
	j := job{run, done}
	select {
	case c.jobs <- j:
	default:
		c.wg.Go(func() { c.work(j) })
	}
	<-done
}

func (c *crew) work(j job) {
	buf := make([]byte, c.bufferBytes)
	for more := true; more; {
		j.run(buf)
		close(j.done)
		j = job{}
		if c.idle.Add(1) > idleCrew {
			more = false
		} else {
			j, more = <-c.jobs
		}
		c.idle.Add(-1)
	}
}

// stop ends the crew, after the last do.
func (c *crew) stop() {
	close(c.jobs)
	c.wg.Wait()
}
