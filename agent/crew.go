package agent

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Crew runs functions, each in a goroutine of its own. Up to a number of these stay for the next function, with the stack
// that they have grown: to grow one, the runtime looks up every function that is on it, in tables that lie all over the
// program and are mapped for that alone. Safe for concurrent use.
type Crew struct {
	keep    int32
	waiting atomic.Int32
	next    chan func()
	stop    <-chan struct{}
	work    sync.WaitGroup
}

// NewCrew keeps up to keep goroutines until stop is closed, and begins with none.
func NewCrew(keep int, stop <-chan struct{}) *Crew {
	return &Crew{keep: int32(keep), next: make(chan func()), stop: stop}
}

// Go runs f. It does not wait.
func (c *Crew) Go(f func()) {
	if c.keep == 0 {
		c.work.Go(f)
		return
	}
	select {
	case c.next <- f: // taken by one that waits
	default:
		c.work.Go(func() { Roomy(func() { c.serve(f) }) })
	}
}

// Wait returns when every function has, and nobody waits for another any more. stop has to be closed.
func (c *Crew) Wait() { c.work.Wait() }

// stackRoom is how much of its stack Roomy occupies. A collection halves a stack of which less than a quarter is in use; this
// holds 16 KiB.
const stackRoom = 4 << 10

// Roomy calls f on a stack that stays as large as f has made it: for a goroutine that waits at the top of its stack and
// works deep in it, again and again.
func Roomy(f func()) {
	var room [stackRoom]byte
	f()
	runtime.KeepAlive(&room)
}

// serve runs f and what comes after it.
func (c *Crew) serve(f func()) {
	for f != nil {
		f()
		f = c.wait()
	}
}

// wait returns the next function, nil when the goroutine has to end.
func (c *Crew) wait() func() {
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > c.keep {
		return nil
	}
	select {
	case f := <-c.next:
		return f
	case <-c.stop:
		return nil
	}
}
