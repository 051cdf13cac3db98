package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryGoesBackWhenNothingHasNeededItForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made, freed atomic.Uint64
		tr := &trimmer{collections: made.Load, free: func() { freed.Add(1) }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tr.Run(ctx) }()
		busy, calm := 5*trimEvery, 5*trimEvery
		for range busy / time.Second { // a collection a second
			made.Add(1)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := freed.Load(); n != 0 {
			t.Errorf("freed memory %d times while it was in use", n)
		}
		time.Sleep(calm)
		synctest.Wait()
		if n := freed.Load(); n < 2 {
			t.Errorf("freed memory %d times in %s of calm", n, calm)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
