package command

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The benchmarks write through to disk. b.RunParallel with 64 callers per CPU is what a fleet at work looks like.

func BenchmarkSubmit(b *testing.B) {
	j := newJournal(b, Config{DB: openDB(b, filepath.Join(b.TempDir(), "db"), true), MaxOpenPerNode: 1 << 30, MaxOpen: 1 << 30})
	deadline := time.Now().Add(time.Hour)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := j.Submit(b.Context(), Order{Node: "n1", Verb: "ping", Deadline: deadline}); err != nil {
				b.Fatal(err)
			}
		}
	})
	report(b, j)
}

func BenchmarkSubmitAlone(b *testing.B) {
	j := newJournal(b, Config{DB: openDB(b, filepath.Join(b.TempDir(), "db"), true), MaxOpenPerNode: 1 << 30, MaxOpen: 1 << 30})
	deadline := time.Now().Add(time.Hour)
	for b.Loop() {
		if _, err := j.Submit(b.Context(), Order{Node: "n1", Verb: "ping", Deadline: deadline}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOnStatus(b *testing.B) {
	j := newJournal(b, Config{DB: openDB(b, filepath.Join(b.TempDir(), "db"), false), MaxOpenPerNode: 1 << 30, MaxOpen: 1 << 30})
	deadline := time.Now().Add(time.Hour)
	for i := range b.N {
		if _, err := j.Submit(b.Context(), Order{ID: fmt.Sprintf("c%d", i), Node: "n1", Verb: "ping", Deadline: deadline}); err != nil {
			b.Fatal(err)
		}
	}
	j.cfg.DB.NoSync = false
	var next atomic.Int64
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := fmt.Sprintf("c%d", next.Add(1)-1)
			if err := j.OnStatus("n1", &api.Status{ID: id, Phase: api.PhaseSucceeded, Epoch: 1, At: 1}); err != nil {
				b.Fatal(err)
			}
		}
	})
	report(b, j)
}

func report(b *testing.B, j *Journal) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
	if st := j.Stats(); st.Commits > 0 {
		b.ReportMetric(float64(st.Writes)/float64(st.Commits), "writes/commit")
	}
}
