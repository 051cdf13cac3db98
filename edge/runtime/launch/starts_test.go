package launch

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestAContainerIsStartedOnceAtATime(t *testing.T) {
	var s Starts
	err := s.Begin("a")
	if err != nil || !s.Has("a") || s.Has("b") {
		t.Fatalf("%v, a %t, b %t; wanted a alone to have begun", err, s.Has("a"), s.Has("b"))
	}
	var refused atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := s.Begin("a"); err != nil && strings.Contains(err.Error(), "container a is being started") {
				refused.Add(1)
			}
		})
	}
	all.Wait()
	if refused.Load() != 50 {
		t.Errorf("%d of 50 were refused", refused.Load())
	}
	if err := s.Begin("b"); err != nil {
		t.Errorf("b: %v; wanted to begin beside a", err)
	}
	s.End("b")
	s.End("a")
	if err := s.Begin("a"); err != nil || s.Has("b") {
		t.Errorf("after the end: %v, b %t", err, s.Has("b"))
	}
}
