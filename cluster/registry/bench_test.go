package registry

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

const fleetSize = 10_000

func fleetOf(b *testing.B, r *Registry) []string {
	b.Helper()
	ids := make([]string, fleetSize)
	r.cfg.DB.NoSync = true
	for i := range ids {
		ids[i] = fmt.Sprintf("node-%05d", i)
		enrol(b, r, ids[i])
	}
	r.cfg.DB.NoSync = false
	return ids
}

// bigBirth is what a node with twenty verbs says of itself, some 8 KiB as JSON.
func bigBirth(id string, epoch uint64) *api.Birth {
	x := birth(id, epoch, "b1", 1)
	x.Verbs = nil
	for i := range 20 {
		x.Verbs = append(x.Verbs, api.Verb{Name: fmt.Sprintf("verb-%d", i), Help: "Does something that takes a sentence to say.",
			Role: api.RoleOperator, Args: api.Schema{Type: "object", Required: []string{"path"}, Properties: map[string]api.Schema{
				"path": {Type: "string", Description: "where", MaxLength: 4096}, "bytes": {Type: "integer", Description: "how many"},
				"follow": {Type: "boolean", Description: "whether to go on"}}}})
	}
	for i := range 12 {
		x.Probes = append(x.Probes, api.Probe{Name: fmt.Sprintf("probe-%d", i), IntervalMillis: 10_000})
	}
	return x
}

// BenchmarkBirths10k is a storm: ten thousand nodes are born, each birth and state on disk before it is acknowledged.
func BenchmarkBirths10k(b *testing.B) {
	r := newRegistry(b, Config{DB: openDB(b, true)})
	ids := fleetOf(b, r)
	births := make([]*api.Birth, len(ids))
	var before, after runtime.MemStats
	epoch := uint64(0)
	b.SetParallelism(64)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		epoch++
		for i, id := range ids {
			births[i] = bigBirth(id, epoch)
		}
		var next atomic.Int64
		done := make(chan struct{}, 128)
		b.StartTimer()
		for range 128 {
			go func() {
				defer func() { done <- struct{}{} }()
				for i := next.Add(1) - 1; i < int64(len(ids)); i = next.Add(1) - 1 {
					if err := r.OnBirth(ids[i], births[i], false); err != nil {
						b.Error(err)
					}
					if err := r.OnState(ids[i], state(api.StateOnline, epoch), false); err != nil {
						b.Error(err)
					}
				}
			}()
		}
		for range 128 {
			<-done
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N*fleetSize)/b.Elapsed().Seconds(), "births/s")
	clear(births)
	runtime.GC()
	runtime.ReadMemStats(&before)
	clear(r.nodes)
	r.verbSets = nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(before.HeapAlloc-after.HeapAlloc)/fleetSize, "heap-B/node")
}

func BenchmarkSeen(b *testing.B) {
	r := newRegistry(b, Config{DB: openDB(b, true)})
	ids := fleetOf(b, r)
	for _, id := range ids {
		r.Seen(id, time.Now())
	}
	now := time.Now()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			r.Seen(ids[i%len(ids)], now)
		}
	})
}

func BenchmarkList10k(b *testing.B) {
	r := newRegistry(b, Config{DB: openDB(b, true)})
	fleetOf(b, r)
	sel, err := ParseSelector("site=token,by!=x")
	must(b, err)
	for b.Loop() {
		if n := len(r.Nodes(sel)); n != fleetSize {
			b.Fatal(n)
		}
	}
}
