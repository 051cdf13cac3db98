package feed

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func TestWatcherSeesEveryChangeInOrder(t *testing.T) {
	f := New[int](100)
	f.Publish(-1, false)
	w := f.Watch(t.Context())
	if w.From() != 1 {
		t.Fatalf("watch begins after version %d; wanted 1", w.From())
	}
	for i := range 100 {
		f.Publish(i, i == 99)
	}
	for i := range 100 {
		c := <-w.Changes()
		if c.Item != i || c.Version != uint64(i+2) || c.Deleted != (i == 99) {
			t.Fatalf("change %d is %+v", i, c)
		}
	}
}

func TestSlowWatcherIsClosedAndTheOthersAreNot(t *testing.T) {
	f := New[int](4)
	slow, quick := f.Watch(t.Context()), f.Watch(t.Context())
	for i := range 10 {
		f.Publish(i, false)
		if c := <-quick.Changes(); c.Item != i {
			t.Fatalf("quick watcher read %d; wanted %d", c.Item, i)
		}
	}
	n := 0
	for c := range slow.Changes() {
		if c.Item != n {
			t.Fatalf("slow watcher read %d; wanted %d", c.Item, n)
		}
		n++
	}
	if n != 4 || !errors.Is(slow.Err(), ErrSlow) || quick.Err() != nil {
		t.Fatalf("slow watcher read %d (%v), quick one ended with %v", n, slow.Err(), quick.Err())
	}
	if watchers, dropped := f.Stats(); watchers != 1 || dropped != 1 {
		t.Fatalf("%d watchers, %d dropped; wanted 1, 1", watchers, dropped)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New[int](1)
		ctx, cancel := context.WithCancel(t.Context())
		w := f.Watch(ctx)
		cancel()
		synctest.Wait()
		if _, open := <-w.Changes(); open || w.Err() != nil {
			t.Fatalf("watch open %v, err %v after its context ended", open, w.Err())
		}
		w.Close()
		ended := f.Watch(ctx) // of a context that has ended already
		synctest.Wait()
		if _, open := <-ended.Changes(); open {
			t.Fatal("watch of an ended context stays open")
		}
		if n, _ := f.Stats(); n != 0 {
			t.Fatalf("%d watchers left", n)
		}
	})
}

func TestPublishAndCloseFromManyGoroutines(t *testing.T) {
	f := New[int](8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				f.Publish(i, false)
			}
		})
		wg.Go(func() {
			for range 50 {
				w := f.Watch(t.Context())
				last := w.From()
				for range 3 {
					select {
					case c, open := <-w.Changes():
						if open && c.Version != last+1 {
							t.Errorf("version %d after %d", c.Version, last)
						}
						last = c.Version
					default:
					}
				}
				w.Close()
			}
		})
	}
	wg.Wait()
	if f.Version() != 1600 {
		t.Fatalf("version %d; wanted 1600", f.Version())
	}
}
