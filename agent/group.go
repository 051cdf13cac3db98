package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Runner is the contract of every component: New(…) checks everything and touches nothing; Run blocks, owns and joins
// its goroutines, and returns nil when ctx ended it.
type Runner interface {
	Run(ctx context.Context) error
}

// RunFunc lets a function be a Runner.
type RunFunc func(ctx context.Context) error

// Run calls f.
func (f RunFunc) Run(ctx context.Context) error { return f(ctx) }

// Readier is a Runner that says when it is first useful. The next stage waits for it.
type Readier interface {
	Ready() <-chan struct{}
}

// Group runs components in stages: started in order, stopped in reverse, each stage fully stopped before the one
// beneath it is asked to. So what answers requests stops before what stores them. Zero value is ready to use; not for
// concurrent use before Run.
type Group struct {
	Log *slog.Logger
	// StopWithin bounds each stage's stop. A component that takes longer is named in the error and left behind.
	// Zero means 10 s.
	StopWithin time.Duration
	stages     []stage
}

type stage struct {
	name    string
	runners []Runner
}

// Stage adds a stage above those added before.
func (g *Group) Stage(name string, runners ...Runner) {
	g.stages = append(g.stages, stage{name, runners})
}

// Run starts every stage and blocks until ctx ends or a component returns. It returns the first component's error, or
// nil after a stop that ctx asked for. A component that returns nil before it was asked to is an error: it was supposed
// to work for as long as the group does.
func (g *Group) Run(ctx context.Context) error {
	stopWithin := g.StopWithin
	if stopWithin == 0 {
		stopWithin = 10 * time.Second
	}
	ended := make(chan error, 1)
	var up []*running
	var err error
	for _, st := range g.stages {
		r := st.start(context.WithoutCancel(ctx), ended)
		up = append(up, r)
		if err = r.ready(ctx, ended); err != nil || ctx.Err() != nil {
			break
		}
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-ended:
		}
	}
	for i := len(up) - 1; i >= 0; i-- {
		if stopErr := up[i].stop(stopWithin); stopErr != nil {
			err = errors.Join(err, stopErr)
		}
	}
	select {
	case late := <-ended: // a stage failed while another was being stopped
		if !errors.Is(err, late) {
			err = errors.Join(err, late)
		}
	default:
	}
	return err
}

// running is a started stage.
type running struct {
	stage
	cancel context.CancelFunc
	done   []chan error // one per runner
}

func (st stage) start(ctx context.Context, ended chan<- error) *running {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{stage: st, cancel: cancel}
	for _, runner := range st.runners {
		done := make(chan error, 1)
		r.done = append(r.done, done)
		go func() {
			err := runner.Run(ctx)
			if ctx.Err() == nil {
				if err == nil {
					err = errors.New("ended without being asked to")
				}
				select {
				case ended <- fmt.Errorf("%s: %w", st.name, err):
				default: // an earlier one is being handled; its error is the cause
				}
				err = nil
			}
			done <- err
		}()
	}
	return r
}

// ready waits until every Readier of the stage is useful, a component ends or ctx ends.
func (r *running) ready(ctx context.Context, ended <-chan error) error {
	for _, runner := range r.runners {
		rd, ok := runner.(Readier)
		if !ok {
			continue
		}
		select {
		case <-rd.Ready():
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// stop cancels the stage and joins it.
func (r *running) stop(within time.Duration) error {
	r.cancel()
	limit := time.NewTimer(within)
	defer limit.Stop()
	var errs []error
	for _, done := range r.done {
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				errs = append(errs, fmt.Errorf("stop %s: %w", r.name, err))
			}
		case <-limit.C:
			return errors.Join(append(errs, fmt.Errorf("stop %s: still running after %s", r.name, within))...)
		}
	}
	return errors.Join(errs...)
}
