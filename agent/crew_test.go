package agent

import (
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"unsafe"
)

// crewAtWork counts the goroutines of crews in this bubble.
func crewAtWork() int {
	buf := make([]byte, 1<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "agent.(*Crew).serve(")
}

func TestACrewKeepsItsGoroutinesAndNoMoreThanItsNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		c := NewCrew(2, stop)
		var ran atomic.Int32
		for range 3 {
			hold := make(chan struct{})
			for range 5 { // at once, whoever is kept
				c.Go(func() { <-hold; ran.Add(1) })
			}
			synctest.Wait()
			if n := crewAtWork(); n != 5 {
				t.Errorf("%d goroutines; wanted one for each of 5 functions", n)
			}
			close(hold)
			synctest.Wait()
			if n := crewAtWork(); n != 2 {
				t.Errorf("%d goroutines wait; wanted 2", n)
			}
		}
		close(stop)
		c.Wait()
		if n := ran.Load(); n != 15 {
			t.Errorf("%d functions ran; wanted 15", n)
		}
	})
}

func TestACrewKeepsNobodyAfterItsStopAndStillRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		close(stop)
		for _, keep := range []int{0, 2} {
			c, ran := NewCrew(keep, stop), false
			c.Go(func() { ran = true })
			c.Wait()
			if !ran {
				t.Errorf("a crew of %d did not run its function", keep)
			}
		}
	})
}

// TestAStackThatACrewKeepsIsNotGrownAgain runs one function before and after a collection, on the same stack.
func TestAStackThatACrewKeepsIsNotGrownAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		c := NewCrew(1, stop)
		places := make(chan uintptr)
		for range 2 {
			c.Go(func() { places <- deep(60) })
			first := <-places
			synctest.Wait() // until it waits for the next: one that is only about to is passed over
			runtime.GC()
			runtime.GC()
			c.Go(func() { places <- deep(60) })
			if second := <-places; second != first {
				t.Errorf("its deepest frame is at %#x, and at %#x after a collection", first, second)
			}
			synctest.Wait()
		}
		close(stop)
		c.Wait()
	})
}

// deep uses some 6 KiB of stack and returns where that ends.
//
//go:noinline
func deep(n int) uintptr {
	var frame [64]byte
	if n == 0 {
		return addressOf(&frame)
	}
	return deep(n-1) + uintptr(frame[0])
}

//go:noinline
func addressOf(p *[64]byte) uintptr { return uintptr(unsafe.Pointer(p)) }
