package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// trialTimes say how long a change of the link may take to connect.
type trialTimes struct {
	window  time.Duration // at most
	least   time.Duration // below this the change is not begun: a slow network needs as much
	reserve time.Duration // of a command's time, for the way back and the news of it
}

func defaultTrial() trialTimes {
	return trialTimes{window: 90 * time.Second, least: 15 * time.Second, reserve: 10 * time.Second}
}

// within is the window of a command that has left until its deadline, so that a change which fails is taken back and told of
// before that. Zero is no command.
func (t trialTimes) within(left time.Duration) (time.Duration, error) {
	if left == 0 {
		return t.window, nil
	}
	window := min(t.window, left-t.reserve)
	if window < t.least {
		return 0, fmt.Errorf("deadline in %s: a change of mqtt is on trial until the node has connected with it, and taken back "+
			"when it cannot; wanted a deadline of %s at least, better %s", agent.Brief(max(left, 0)), agent.Brief(t.least+t.reserve),
			agent.Brief(t.window+t.reserve))
	}
	return window, nil
}

// rest is what is left of a window that ends at until, as this clock has it now: enough to connect at least, and no more than a whole one.
func (t trialTimes) rest(until api.Millis, now time.Time) time.Duration {
	return max(t.least, min(t.window, until.Time().Sub(now)))
}

// prove waits up to window until the node has connected with the trial, and makes it the rule, or takes it back, also when
// its command is cancelled. Only the agent's own stop leaves it on trial: the next start goes on with it.
func (s *settings) prove(ctx context.Context, trial map[string]any, window time.Duration) (map[string]any, error) {
	link, _ := s.agent.line.current()
	began := time.Now()
	wctx, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	err := link.AwaitUp(wctx)
	if err == nil {
		s.mu.Lock()
		generation := s.kept.Generation
		s.mu.Unlock()
		if err := s.keep(overlays{Current: trial, Generation: generation}); err != nil {
			return nil, err
		}
		s.outcome("applied", nil)
		return trial, nil
	}
	s.mu.Lock()
	stopping := s.life != nil && s.life.Err() != nil
	s.mu.Unlock()
	if stopping {
		return nil, errors.New("agent is stopping; the settings are still on trial")
	}
	cause := fmt.Errorf("node did not connect with them within %s: %s", agent.Brief(time.Since(began)), link.Status().LastError)
	return nil, errors.Join(fmt.Errorf("rolled back: %w", cause), s.rollBack(cause))
}

// resume finishes a trial that a restart interrupted: for Run, or for the command that began it and is done anew, whoever comes first.
// Caller holds one.
func (s *settings) resume(ctx context.Context) {
	s.mu.Lock()
	kept := s.kept
	s.mu.Unlock()
	if kept.Trial == nil {
		return
	}
	_, err := s.prove(ctx, kept.Trial, s.trial.rest(kept.Until, s.agent.clock.Now()))
	s.resumed.command, s.resumed.err = kept.Command, err
	if err == nil {
		s.agent.event(api.ClassEvent, "config.applied", "", "settings proved themselves after a restart")
	} else if ctx.Err() == nil {
		s.agent.log.Warn("settings rolled back", agent.KeyErr, err)
	}
}

// rollBack puts the settings from before the trial in force.
func (s *settings) rollBack(cause error) error {
	defer s.agent.oweReport()
	s.mu.Lock()
	kept := s.kept
	s.mu.Unlock()
	cfg, err := s.load(kept.Current)
	if err != nil {
		cfg, err = s.agent.cfg, fmt.Errorf("settings from before cannot be used, those of the device alone are in force: %w", err)
	}
	err = errors.Join(err, s.keep(overlays{Current: kept.Current, Generation: kept.Generation}))
	s.outcome("rolled-back", cause)
	err = errors.Join(err, s.putInForce(cfg))
	if _, uerr := s.agent.line.use(cfg); uerr != nil {
		err = errors.Join(err, uerr)
	}
	s.agent.event(api.ClassAlarm, "config.rolled-back", "", cause.Error())
	return err
}
