package telemetry

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// ErrClock is wrapped, with ErrUnavailable, by errors about batches that our clock cannot judge.
var ErrClock = errors.New("time is not known")

// sure refuses batches of a group that may only seem to be from the future, and returns the others.
func (s *Store) sure(group []*request) []*request {
	latest := api.At(s.cfg.Now().Add(s.cfg.MaxFuture))
	return slices.DeleteFunc(group, func(r *request) bool {
		ahead := slices.ContainsFunc(r.batch.Rows, func(row api.Row) bool { return r.batch.T0+api.Millis(row.OffsetMillis) > latest })
		if !ahead {
			return false
		}
		err := s.cfg.Doubt(true)
		if err != nil {
			r.finish(0, fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrClock, err))
		}
		return err != nil
	})
}

// rejectLogEvery spaces the log lines about one node's rejected samples.
const rejectLogEvery = 10 * time.Minute

// account books what a stored batch lost.
func (s *Store) account(r *request) {
	lost := r.count.sum()
	if lost == 0 {
		return
	}
	now := time.Now()
	r.series.mu.Lock()
	for i, v := range r.count {
		r.series.rejected[i] += v
	}
	tell := now.Sub(r.series.logged) > rejectLogEvery
	if tell {
		r.series.logged = now
	}
	r.series.mu.Unlock()
	for i, v := range r.count {
		if v == 0 {
			continue
		}
		s.metrics.rejected.WithLabelValues(string(reasons[i])).Add(float64(v))
		if tell {
			s.log.Warn("samples rejected", agent.KeyNode, r.node, agent.KeyReason, string(reasons[i]), agent.KeyCount, v)
			if s.cfg.OnReject != nil {
				s.cfg.OnReject(r.node, reasons[i], v)
			}
		}
	}
}
