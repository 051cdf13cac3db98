package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/edge/update"
)

// settleFor is how long a program stays well before it is believed.
const settleFor = 5 * time.Second

// prove ends the trial, one way or the other, and the process: the launcher goes on with what is active then.
func (u *updates) prove(ctx context.Context) error {
	a := u.agent
	err := u.healthy(ctx)
	if ctx.Err() != nil {
		return nil // the next start goes on with it
	}
	end := u.self.Fail
	if errors.Is(err, errNoLink) {
		end = u.self.Doubt
	}
	if err == nil {
		err = u.self.Prove()
	} else if ferr := end(err.Error()); ferr != nil && !errors.Is(ferr, update.ErrReturned) {
		a.log.Error("the end of the trial is not kept", agent.KeyErr, ferr)
	}
	if err != nil {
		a.log.Error("update taken back", agent.KeyVersion, agent.Version(), agent.KeyErr, err)
	} else {
		a.log.Info("update proved itself", agent.KeyVersion, agent.Version())
	}
	close(u.settled)
	a.restart(errRestart)
	return nil
}

// errNoLink is a trial that failed for want of a link.
var errNoLink = errors.New("it did not connect")

// healthy waits until the node has connected, read its journal and run its probes, and stays so for a moment.
func (u *updates) healthy(ctx context.Context) error {
	a := u.agent
	window := a.cfg.Update.Window
	if s, err := u.self.State(); err == nil && s.Trial != nil {
		window = time.Duration(s.Trial.WindowSeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, window-time.Since(a.started))
	defer cancel()
	late := func(what error, why string) error {
		if why != "" {
			why = ": " + why
		}
		return fmt.Errorf("%w within %s%s", what, agent.Brief(window), why)
	}
	select {
	case <-a.engine.Ready():
	case <-ctx.Done():
		return late(errors.New("the journal of commands was not read"), "")
	}
	for {
		if a.line.AwaitUp(ctx) != nil {
			return late(errNoLink, a.line.status().LastError)
		}
		since := a.line.status().Since
		if !agent.Wait(ctx, settleFor) {
			return late(errNoLink, "it did not stay connected")
		}
		if st := a.line.status(); st.Connected && st.Since.Equal(since) {
			break
		}
	}
	for a.scrapes.Load() == 0 {
		if !agent.Wait(ctx, 100*time.Millisecond) {
			return late(errors.New("the probes did not run"), "")
		}
	}
	return nil
}

// judge finds out whether a trial failed by the fault of its program, where all that it lacked was a link: this one, which is the one before, has
// as long to connect.
func (u *updates) judge(ctx context.Context) {
	defer close(u.judged)
	if s, err := u.self.State(); err != nil || !s.InDoubt() {
		return
	}
	within, cancel := context.WithTimeout(ctx, u.agent.cfg.Update.Window)
	defer cancel()
	up := u.agent.line.AwaitUp(within) == nil
	if ctx.Err() != nil {
		return // the next start finds out
	}
	if err := u.self.Judge(up); err != nil {
		u.agent.log.Error("outcome of an update not kept", agent.KeyErr, err)
	}
}
