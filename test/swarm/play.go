package swarm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Player plays a scenario with a swarm. Site, Listener and Views may be absent; then steps that need them fail. Say is
// told what happens, once a step.
type Player struct {
	Swarm    *Swarm
	Site     *Site
	Listener *account.MQTT
	Views    []account.View
	Tiers    map[string]Tier
	Say      func(text string)

	mu     sync.Mutex
	spans  []Span
	report *account.Report
}

// Span is how long a step took.
type Span struct {
	Step  string  `json:"step"`
	Took  Seconds `json:"took"`
	Error string  `json:"error,omitempty"`
}

// Play plays sc until its end, its limit or the first step that fails.
func (p *Player) Play(ctx context.Context, sc Scenario) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sc.Limit, fmt.Errorf("scenario %s: its limit of %s is over", sc.Name, sc.Limit))
	defer cancel()
	var background sync.WaitGroup
	defer background.Wait()
	bctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make(chan error, len(sc.Steps))
	for i := range sc.Steps {
		step := sc.Steps[i]
		if step.Background {
			p.say("%s, in the background", step.title())
			background.Go(func() {
				if err := p.timed(bctx, step); err != nil && bctx.Err() == nil {
					errs <- err
				}
			})
			continue
		}
		if step.Do == "drain" { // whoever still orders comes to the end of it
			background.Wait()
		}
		p.say("%s", step.title())
		if err := p.timed(ctx, step); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("step %d, %s: %w", i+1, step.Do, err)
		}
	}
	background.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func (p *Player) say(format string, args ...any) {
	if p.Say != nil {
		p.Say(fmt.Sprintf(format, args...))
	}
}

// timed does a step and notes how long it took.
func (p *Player) timed(ctx context.Context, step Step) error {
	start := time.Now()
	err := p.do(ctx, step)
	span := Span{Step: step.title(), Took: Seconds(time.Since(start))}
	if err != nil {
		span.Error = err.Error()
	}
	p.mu.Lock()
	p.spans = append(p.spans, span)
	p.mu.Unlock()
	return err
}

// title is a step in a few words.
func (s *Step) title() string {
	switch s.Do {
	case "ramp":
		if s.Nodes == 0 {
			return fmt.Sprintf("ramp all at %g/s", s.Rate)
		}
		return fmt.Sprintf("ramp %d at %g/s", s.Nodes, s.Rate)
	case "command":
		return fmt.Sprintf("command %s at %g/s for %s", s.Verb, s.Rate, s.For)
	case "await", "cut", "reset":
		return fmt.Sprintf("%s %.4g %%", s.Do, 100*s.Share)
	case "hold":
		return "hold " + s.For.String()
	case "tier":
		return s.Action + " " + s.Tier
	case "assert":
		return fmt.Sprintf("assert %s %s %g", s.Metric, s.Op, s.Value)
	}
	return s.Do
}

func (p *Player) do(ctx context.Context, step Step) error {
	s := p.Swarm
	switch step.Do {
	case "ramp":
		return s.Start(ctx, step.Nodes, step.Rate)
	case "await":
		return p.await(ctx, step)
	case "command":
		if p.Site == nil {
			return errors.New("no access to REST; give --access")
		}
		return p.order(ctx, step)
	case "cut":
		s.Cut(step.Share)
	case "back":
		s.Back()
	case "reset":
		s.Reset(step.Share)
	case "hold":
		agent.Wait(ctx, step.For)
		return ctx.Err()
	case "tier":
		return p.tier(ctx, step)
	case "drain":
		return s.Drain(ctx, step.Within)
	case "assert":
		return p.assert(step)
	case "account":
		return p.account(ctx)
	}
	return nil
}

// await waits until a share of the nodes that were started is online.
func (p *Player) await(ctx context.Context, step Step) error {
	ctx, cancel := context.WithTimeout(ctx, step.Within)
	defer cancel()
	st := &p.Swarm.stats
	for float64(st.online.Load()) < step.Share*float64(st.started.Load()) {
		if !agent.Wait(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%d of %d nodes are online after %s; wanted %.4g %%", st.online.Load(), st.started.Load(), step.Within, 100*step.Share)
		}
	}
	return nil
}

func (p *Player) tier(ctx context.Context, step Step) error {
	t := p.Tiers[step.Tier]
	if t == nil {
		return fmt.Errorf("no tier %q in this run", step.Tier)
	}
	ctx, cancel := context.WithTimeout(ctx, step.Within)
	defer cancel()
	switch step.Action {
	case "start":
		return t.Start(ctx)
	case "kill":
		return t.Kill(ctx)
	}
	return t.Await(ctx)
}

// account compares everything; what is on its way would be a difference, so a drain has to come before.
func (p *Player) account(ctx context.Context) error {
	if !p.Swarm.calm.Load() {
		return errors.New("drain first: what is on its way cannot be accounted for")
	}
	if len(p.Views) == 0 {
		return errors.New("no view; give --access")
	}
	r, err := account.Make(ctx, p.Swarm.Truth(), p.Views...)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.report = r
	p.mu.Unlock()
	return r.Err()
}
