package fault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// events plays the schedule and returns when all is healed. On a machine that stood still faults come late, but two of a
// lane one after the other even so, each for its time.
func (r *Round) events(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now()
	lanes := map[string][]Event{}
	for _, e := range r.Schedule.Events {
		kind, err := kindOf(e.Fault)
		if err != nil {
			return err
		}
		lane := kind.Lane + ":" + e.Target
		lanes[lane] = append(lanes[lane], e)
	}
	var wg sync.WaitGroup
	for _, lane := range lanes {
		wg.Go(func() {
			for _, e := range lane {
				if !agent.Wait(ctx, r.compressed(e.At)-time.Since(begin)) {
					return
				}
				if err := r.one(ctx, e); err != nil {
					cancel(fmt.Errorf("%s at %s: %w", e.Fault, e.Target, err))
				}
			}
		})
	}
	wg.Go(func() { agent.Wait(ctx, r.compressed(r.Schedule.Length)-time.Since(begin)) })
	wg.Wait()
	return context.Cause(ctx)
}

func (r *Round) compressed(d time.Duration) time.Duration { return time.Duration(float64(d) / r.Speed) }

// one injects a fault and heals it.
func (r *Round) one(ctx context.Context, e Event) error {
	kind, err := kindOf(e.Fault)
	if err != nil {
		return err
	}
	r.rig.cfg.Say("%s %s %v for %s", e.Fault, e.Target, e.Params, e.For)
	heal, err := kind.Inject(ctx, r.rig, e)
	if err == nil {
		r.mu.Lock()
		r.outcome.Faults[e.Fault]++
		r.mu.Unlock()
		agent.Wait(ctx, r.compressed(e.For))
	}
	if heal != nil {
		err = errors.Join(err, heal(context.WithoutCancel(ctx)))
	}
	return err
}
