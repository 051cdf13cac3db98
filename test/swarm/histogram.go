package swarm

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations in buckets that are an eighth of their lower bound wide. Safe for concurrent use.
type Histogram struct{ counts [320]atomic.Uint64 }

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	us := uint64(max(0, d.Microseconds()))
	i := int(us)
	if us >= 8 {
		e := bits.Len64(us) - 4 // us>>e is 8 to 15
		i = e*8 + int(us>>e)
	}
	h.counts[min(i, len(h.counts)-1)].Add(1)
}

// Reset forgets all.
func (h *Histogram) Reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
}

// Count is how many were added.
func (h *Histogram) Count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Quantile is the upper bound of the bucket in which the q-quantile lies; 0 without any.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.Count())))
	var n uint64
	for i := range h.counts {
		if n += h.counts[i].Load(); n >= rank && n > 0 {
			us := uint64(i + 1)
			if i >= 16 {
				us = uint64(i%8+9) << (i/8 - 1)
			}
			return time.Duration(us) * time.Microsecond
		}
	}
	return 0
}
