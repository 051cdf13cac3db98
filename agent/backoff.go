package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff spaces retries with full jitter: the n-th wait is uniform in [0, min(Max, Min·2ⁿ)), so that a fleet cut off at
// one moment does not return at one moment. The zero value waits up to 1 s, then up to 5 min. Not for concurrent use.
type Backoff struct {
	Min     time.Duration // ceiling of the first wait; zero means 1 s
	Max     time.Duration // ceiling of any wait; zero means 5 min
	attempt int
}

// Next returns the next wait.
func (b *Backoff) Next() time.Duration {
	lowest, highest := b.Min, b.Max
	if lowest <= 0 {
		lowest = time.Second
	}
	if highest <= 0 {
		highest = 5 * time.Minute
	}
	ceiling := highest
	if shifted := lowest << b.attempt; b.attempt < 32 && shifted > 0 && shifted < highest {
		ceiling = shifted
		b.attempt++
	}
	return rand.N(ceiling)
}

// Attempt is how often Next was called since the last Reset, as far as it still grows the wait.
func (b *Backoff) Attempt() int { return b.attempt }

// Reset forgets past failures.
func (b *Backoff) Reset() { b.attempt = 0 }

// Wait sleeps for d or until ctx ends, and reports whether ctx still lives.
func Wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// Brief rounds a duration to what a person reads: 1.4s, 350ms, 2m10s.
func Brief(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return max(d.Round(time.Millisecond), time.Millisecond)
}

// Jitter returns d spread uniformly by ±fraction, for intervals that must not align across a fleet.
func Jitter(d time.Duration, fraction float64) time.Duration {
	return d + time.Duration((rand.Float64()*2-1)*fraction*float64(d))
}
