package telemetry

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func benchSeries(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`node_filesystem_avail_bytes{device="/dev/mmcblk0p%d",fstype="ext4",mountpoint="/data/%d"}`, i, i)
	}
	return out
}

// BenchmarkIngest: 1,000 nodes, 20 series and one row a batch, 64 at once, each answered when it is in the log.
func BenchmarkIngest(b *testing.B) {
	for _, window := range []time.Duration{-1, 7 * 24 * time.Hour} {
		b.Run(fmt.Sprintf("window=%s", max(window, 0)), func(b *testing.B) {
			s := start(b, Config{OutOfOrderWindow: window, Log: slog.New(slog.DiscardHandler)})
			const nodes, appenders = 1000, 64
			names := benchSeries(20)
			begin := time.Now().Add(-time.Hour)
			var next atomic.Int64
			send := func(i int64) {
				batch := &api.Batch{Epoch: 1, Seq: uint64(i) + 1, Boot: "b", T0: api.At(begin.Add(time.Duration(i/nodes) * 100 * time.Millisecond)),
					Series: names, Rows: []api.Row{{Values: make([]float64, len(names))}}}
				for j := range names {
					batch.Rows[0].Values[j] = float64(i + int64(j))
				}
				if _, err := s.Append(b.Context(), fmt.Sprintf("n%d", i%nodes), batch); err != nil {
					b.Error(err)
				}
			}
			for i := range int64(nodes) { // the series exist, as they do but once in a node's life
				send(i)
			}
			next.Store(nodes)
			b.ReportAllocs()
			b.ResetTimer()
			spent := cpu()
			var wg sync.WaitGroup
			end := int64(b.N) + nodes
			for range appenders {
				wg.Go(func() {
					for i := next.Add(1) - 1; i < end; i = next.Add(1) - 1 {
						send(i)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "batches/s")
			b.ReportMetric(float64((cpu()-spent).Microseconds())/float64(b.N), "cpu-µs/batch") // whatever else the machine does
			b.StopTimer()
		})
	}
}

// BenchmarkHeadMemory tells what a series costs in memory: cache and TSDB, 200,000 series with two samples each.
func BenchmarkHeadMemory(b *testing.B) {
	for b.Loop() {
		s := start(b, Config{Log: slog.New(slog.DiscardHandler)})
		before := heap()
		const nodes, each = 1000, 200
		now := time.Now()
		for n := range nodes {
			names := benchSeries(each)
			for k := range 2 {
				values := make([]float64, each)
				mustAppend(b, s.Store, fmt.Sprintf("n%d", n), &api.Batch{Epoch: 1, Seq: 1, T0: api.At(now) + api.Millis(k), Series: names,
					Rows: []api.Row{{Values: values}}})
			}
		}
		b.ReportMetric(float64(heap()-before)/nodes/each, "B/series")
		if err := s.stop(); err != nil {
			b.Fatal(err)
		}
	}
}

// cpu is the processor time this process used.
func cpu() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkLateRows sends rows of 60 series that were sent before, as a node does after its connection broke, and rows that fall
// between those, as a node does that has a backlog.
func BenchmarkLateRows(b *testing.B) {
	for what, shift := range map[string]time.Duration{"again": 0, "backlog": 3 * time.Second} {
		b.Run(what, func(b *testing.B) {
			s := start(b, Config{Log: slog.New(slog.DiscardHandler)})
			const nodes, rows = 200, 100
			names := benchSeries(60)
			begin := time.Now().Add(-time.Hour)
			row := func(i int, shift time.Duration) {
				batch := &api.Batch{Epoch: 1, Seq: uint64(i) + 1, Boot: "b", T0: api.At(begin.Add(time.Duration(i/nodes)*10*time.Second + shift)),
					Series: names, Rows: []api.Row{{Values: make([]float64, len(names))}}}
				for j := range names {
					batch.Rows[0].Values[j] = float64(i + j)
				}
				mustAppend(b, s.Store, fmt.Sprintf("n%d", i%nodes), batch)
			}
			for i := range nodes * rows {
				row(i, 0)
			}
			b.ResetTimer()
			spent := cpu()
			for i := range b.N {
				row(i%(nodes*(rows-1)), shift)
			}
			b.ReportMetric(float64((cpu()-spent).Microseconds())/float64(b.N), "cpu-µs/row")
		})
	}
}
