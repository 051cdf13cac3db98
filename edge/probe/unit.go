package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// unit is a probe at work: how it is read and how it is doing.
type unit struct {
	probe    Probe
	slow     bool
	timeout  time.Duration
	interval time.Duration
	every    uint64 // read in every n-th round
	success  string // its two series about itself
	duration string

	emitted []Sample // of a fast probe, kept for its memory

	mu       sync.Mutex
	running  chan struct{} // slow: closed when the reading that is under way ends
	since    time.Time     // when that began
	patience time.Duration // how long a round waits for it
	late     bool          // slow: its last reading took longer than that, so it is not waited for
	result   *result       // slow: not yet collected
	waited   *result       // slow: came too late for its round, and is told in this one
	spare    []Sample      // slow: memory of the result collected before

	failing error // nil while the probe works
}

// result is what a reading gave.
type result struct {
	unit    *unit // set when it is taken into a scrape
	samples []Sample
	err     error
	took    time.Duration
}

func newUnit(p Probe, slow bool, timeout time.Duration) *unit {
	return &unit{probe: p, slow: slow, timeout: timeout, every: 1,
		success:  seriesName("node_scrape_collector_success", "collector", p.Name()),
		duration: seriesName("node_scrape_collector_duration_seconds", "collector", p.Name())}
}

// read reads the probe once. A parser that panics over what a kernel wrote is a failed probe, not a dead agent.
func (u *unit) read(ctx context.Context, samples []Sample) (r result) {
	start := time.Now()
	r.samples = samples
	defer func() {
		if p := recover(); p != nil {
			r.err = fmt.Errorf("probe panicked: %v", p)
		}
		r.took = time.Since(start)
	}()
	r.err = u.probe.Read(ctx, func(series string, value float64) {
		r.samples = append(r.samples, Sample{series, value})
	})
	return r
}

// start reads a slow probe in a goroutine unless the last reading is still under way. One that came too late for its round
// is told in this one, whatever the next reading says: none may be lost. When it was quick, there is none beside it, so that
// the probe is read in step again.
func (u *unit) start(ctx context.Context, slots chan struct{}, crew *agent.Crew) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.running != nil || ctx.Err() != nil {
		return
	}
	if u.result != nil {
		u.waited, u.result = u.result, nil
		if !u.late {
			return
		}
	}
	done, spare := make(chan struct{}), u.spare[:0]
	u.running, u.since, u.spare = done, time.Now(), nil
	crew.Go(func() {
		var r result
		select {
		case slots <- struct{}{}:
			reading, cancel := context.WithTimeout(ctx, u.timeout)
			r = u.read(reading, spare)
			cancel()
			<-slots
		case <-ctx.Done():
			r = result{samples: spare, err: ctx.Err()}
		}
		u.mu.Lock()
		u.result, u.running, u.late = &r, nil, r.took > u.patience
		u.mu.Unlock()
		close(done)
	})
}

// wait waits for the reading that is under way, until patience is spent. A probe that was late the last time is only
// looked at: it would make every scrape late.
func (u *unit) wait(ctx context.Context, patience <-chan time.Time, insist bool) (spent bool) {
	u.mu.Lock()
	running, late := u.running, u.late
	u.mu.Unlock()
	if running == nil || late && !insist {
		return false
	}
	select {
	case <-running:
	case <-patience:
		return true
	case <-ctx.Done():
		return true
	}
	return false
}

// collect takes the latest result of a slow probe, nil when there is none since the last one.
func (u *unit) collect() *result {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.late = u.late || u.running != nil
	if r := u.waited; r != nil {
		u.waited = nil
		return r
	}
	r := u.result
	u.result = nil
	if r == nil && u.running != nil && time.Since(u.since) > u.timeout+time.Second {
		// Only the kernel, or a full set of slots, keeps a probe beyond its timeout.
		return &result{err: fmt.Errorf("still not done %s after it began; skipped", time.Since(u.since).Round(time.Second))}
	}
	return r
}

// recycle hands the memory of a collected result back.
func (u *unit) recycle(r *result) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.spare == nil {
		u.spare = r.samples
	}
}

// settle notes how a reading went and reports whether that is news: the first failure, or the recovery.
func (u *unit) settle(err error) (news bool) {
	if errors.Is(err, ErrNoData) {
		err = nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	news = (err == nil) != (u.failing == nil)
	u.failing = err
	return news
}

func (u *unit) lastError() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failing
}
