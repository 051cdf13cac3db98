// Package feed tells many watchers of every change, in order, without ever waiting for one of them: a watcher whose
// queue is full is closed with ErrSlow and has to list and watch anew, as a Kubernetes watch does.
package feed

import (
	"context"
	"errors"
	"sync"
)

// ErrSlow is why a watch ended whose reader did not keep up.
var ErrSlow = errors.New("watch closed: the reader fell behind; list and watch again")

// DefaultQueue is how many changes may wait for one watcher.
const DefaultQueue = 256

// Change is one thing that happened to an item. Version numbers the changes of a feed without a gap from 1; it begins
// anew when the process does. Deleted marks the last change of an item.
type Change[T any] struct {
	Version uint64
	Deleted bool
	Item    T
}

// Feed is safe for concurrent use. Items are shared between watchers: nobody may change one.
type Feed[T any] struct {
	queue int

	mu       sync.Mutex
	version  uint64
	watchers map[*Watch[T]]struct{}
	slow     uint64
}

// New returns a feed that lets queue changes wait for each watcher; 0 means DefaultQueue.
func New[T any](queue int) *Feed[T] {
	if queue <= 0 {
		queue = DefaultQueue
	}
	return &Feed[T]{queue: queue, watchers: make(map[*Watch[T]]struct{})}
}

// Watch receives changes until its context ends, it is closed, or its reader falls behind.
type Watch[T any] struct {
	feed    *Feed[T]
	from    uint64
	changes chan Change[T]
	unhook  func() bool

	mu     sync.Mutex
	err    error
	closed bool
}

// Publish tells every watcher of item and returns the version of the change.
func (f *Feed[T]) Publish(item T, deleted bool) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	change := Change[T]{Version: f.version, Deleted: deleted, Item: item}
	for w := range f.watchers {
		select {
		case w.changes <- change:
		default:
			f.slow++
			f.drop(w, ErrSlow)
		}
	}
	return f.version
}

// Watch begins to watch. To miss nothing and see nothing twice, take the list while nothing can be published, or drop
// changes up to the version of the list.
func (f *Feed[T]) Watch(ctx context.Context) *Watch[T] {
	w := &Watch[T]{feed: f, changes: make(chan Change[T], f.queue)}
	f.mu.Lock()
	w.from = f.version
	f.watchers[w] = struct{}{}
	w.unhook = context.AfterFunc(ctx, w.Close)
	f.mu.Unlock()
	return w
}

// Version is that of the newest change.
func (f *Feed[T]) Version() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version
}

// Stats returns how many watch now, and how many were closed so far because they fell behind.
func (f *Feed[T]) Stats() (watchers int, slow uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers), f.slow
}

// drop ends w. Caller holds f.mu, which also orders the close after every send.
func (f *Feed[T]) drop(w *Watch[T], err error) {
	delete(f.watchers, w)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed, w.err = true, err
	close(w.changes)
}

// Changes is closed when the watch ends; Err then says why. What was queued before the end can still be read.
func (w *Watch[T]) Changes() <-chan Change[T] { return w.changes }

// From is the version of the feed when the watch began; the first change has the next one.
func (w *Watch[T]) From() uint64 { return w.from }

// Err is nil while the watch lives and after an end that its context or Close asked for.
func (w *Watch[T]) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close ends the watch. It may be called more than once.
func (w *Watch[T]) Close() {
	w.feed.mu.Lock()
	w.feed.drop(w, nil)
	unhook := w.unhook
	w.feed.mu.Unlock()
	unhook()
}
