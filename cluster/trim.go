package cluster

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

const (
	trimEvery = 30 * time.Second
	// busyCollections in trimEvery say that the free heap is about to be used again.
	busyCollections = 2
)

// trimmer gives back what a storm of connections or a large query needed, once it is over. Go would keep it: the heap may
// grow to twice what lives before it is collected, which without a reason to takes two minutes, and free pages go back
// only as far as the heap is larger than that. It collects, too, which halves stacks that were deep.
type trimmer struct {
	collections func() uint64 // made so far for lack of memory
	free        func()
}

func newTrimmer() *trimmer {
	return &trimmer{collections: collections, free: debug.FreeOSMemory}
}

func collections() uint64 {
	s := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// Run looks every half minute until ctx ends.
func (t *trimmer) Run(ctx context.Context) error {
	before := t.collections()
	for agent.Wait(ctx, agent.Jitter(trimEvery, 0.1)) {
		now := t.collections()
		if now-before < busyCollections {
			t.free()
		}
		before = now
	}
	return nil
}
