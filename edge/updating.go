package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/command/verb"
	"github.com/skerry-edge/skerry/edge/update"
)

// updates is what the agent does about its own program (docs/adr/0021).
type updates struct {
	agent   *Agent
	self    *update.Self // nil: this agent cannot be updated; the log says why
	keys    []release.Key
	settled chan struct{} // closed when this program's trial is over
	wish    wish

	one chan struct{} // holds one token: one update at a time
}

// tooOften is how often an update may be interrupted before its trial begins.
const tooOften = 5

func newUpdates(a *Agent, self *update.Self) (*updates, error) {
	u := &updates{agent: a, self: self, settled: make(chan struct{}), one: make(chan struct{}, 1), wish: wish{wake: make(chan struct{}, 1)}}
	for _, text := range updateKeys(a.cfg) {
		key, err := release.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("update.keys: %w", err)
		}
		u.keys = append(u.keys, key)
	}
	return u, nil
}

// updateKeys are those of the configuration, or else those that are built in.
func updateKeys(cfg configs.Edge) []string {
	if len(cfg.Update.Keys) > 0 {
		return cfg.Update.Keys
	}
	return agent.ReleaseKeys()
}

// updateDir is where the slots are.
func updateDir(cfg configs.Edge) string {
	if cfg.Update.Dir != "" {
		return cfg.Update.Dir
	}
	return filepath.Join(cfg.Dir, "update")
}

// order is the verb agent.update. After a restart it is called again, and tells what came of it.
func (u *updates) order(ctx context.Context, job *command.Job, args verb.UpdateArgs) (command.Outcome, error) {
	if u.self == nil {
		return command.Outcome{}, fmt.Errorf("%w: this agent has no directory for updates; its log says why", command.ErrRejected)
	}
	if err := u.alone(ctx); err != nil {
		return command.Outcome{}, err
	}
	defer func() { <-u.one }()
	id := job.Command.ID
	for {
		s, err := u.self.State()
		if err != nil {
			return command.Outcome{}, err
		}
		if o, ended := s.Outcome(id); ended {
			return u.outcome(o)
		}
		if s.Trial == nil || s.Trial.Command != id {
			break
		}
		if !u.self.OnTrial() { // kept, and not begun: the disk was full at the last start
			return command.Outcome{}, u.switchOver(ctx)
		}
		select {
		case <-u.settled:
		case <-ctx.Done():
			return command.Outcome{}, context.Cause(ctx)
		}
	}
	if job.Attempts >= tooOften {
		return command.Outcome{}, fmt.Errorf("interrupted %d times before the new program was on trial", job.Attempts)
	}
	err := u.install(ctx, update.Want{Version: args.Version, URL: args.URL, Force: args.Force, Command: id}, job.Progress)
	if errors.Is(err, update.ErrRefused) {
		return command.Outcome{}, fmt.Errorf("%w: %w", command.ErrRejected, err)
	}
	if err != nil {
		return command.Outcome{}, err
	}
	return command.Outcome{}, u.switchOver(ctx)
}

// alone waits until no other update is at work; who called it takes the token out again.
func (u *updates) alone(ctx context.Context) error {
	select {
	case u.one <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// outcome is how a command ends whose trial is over.
func (u *updates) outcome(o update.Outcome) (command.Outcome, error) {
	if !o.OK {
		return command.Outcome{Result: map[string]any{"version": o.From}}, errors.New(o.Failure())
	}
	return command.Outcome{Result: map[string]any{"version": o.Version, "from": o.From}}, nil
}

// switchOver restarts into the trial, and waits for the end that this brings.
func (u *updates) switchOver(ctx context.Context) error {
	u.agent.restart(errRestart)
	<-ctx.Done()
	return context.Cause(ctx)
}

// install brings a release into a slot, and tells of each step.
func (u *updates) install(ctx context.Context, w update.Want, progress func(string)) error {
	a := u.agent
	i := &update.Installer{Self: u.self, Keys: u.keys, Window: a.cfg.Update.Window, Running: agent.Version(), Try: [][]string{{"config"}},
		Site: &update.Site{Endpoints: func() []string { return a.keeper.Current().Endpoints },
			TLS: func(host string) *tls.Config { return a.keeper.Current().SiteTLS(host, a.clock) }}}
	if a.args != nil {
		i.Try = [][]string{append([]string{"config"}, a.args...)}
	}
	last := ""
	return i.Install(ctx, w, func(text string) {
		progress(text)
		if step, _, _ := strings.Cut(text, " "); step != last { // of a download, only that it began
			last = step
			a.event(api.ClassEvent, "update.step", w.Version, text)
		}
	})
}

// settle is how long a program stays well before it is believed.
const settleFor = 5 * time.Second

// Run has a program on trial show its health, then tells what came of updates and follows the desired version.
func (u *updates) Run(ctx context.Context) error {
	if u.self == nil {
		u.wish.stands(u.agent, api.AgentWaiting, "this agent has no directory for updates; its log says why")
		<-ctx.Done()
		return nil
	}
	if u.self.OnTrial() {
		u.wish.stands(u.agent, api.AgentTrial, "")
		if err := u.prove(ctx); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	u.tell()
	return u.converge(ctx)
}

// prove ends the trial, one way or the other, and the process: the launcher goes on with what is active then.
func (u *updates) prove(ctx context.Context) error {
	a := u.agent
	err := u.healthy(ctx)
	if ctx.Err() != nil {
		return nil // the next start goes on with it
	}
	if err == nil {
		err = u.self.Prove()
	} else if ferr := u.self.Fail(err.Error()); ferr != nil && !errors.Is(ferr, update.ErrReturned) {
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

// healthy waits until the node has connected, read its journal and run its probes, and stays so for a moment.
func (u *updates) healthy(ctx context.Context) error {
	a := u.agent
	window := a.cfg.Update.Window
	if s, err := u.self.State(); err == nil && s.Trial != nil {
		window = time.Duration(s.Trial.WindowSeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, window-time.Since(a.started))
	defer cancel()
	late := func(what string) error {
		return fmt.Errorf("%s within %s", what, agent.Brief(window))
	}
	select {
	case <-a.engine.Ready():
	case <-ctx.Done():
		return late("the journal of commands was not read")
	}
	for {
		if a.line.AwaitUp(ctx) != nil {
			return late("it did not connect: " + a.line.status().LastError + ",")
		}
		since := a.line.status().Since
		if !agent.Wait(ctx, settleFor) {
			return late("it did not stay connected")
		}
		if st := a.line.status(); st.Connected && st.Since.Equal(since) {
			break
		}
	}
	for a.scrapes.Load() == 0 {
		if !agent.Wait(ctx, 100*time.Millisecond) {
			return late("the probes did not run")
		}
	}
	return nil
}

// tell puts into events what came of updates, once.
func (u *updates) tell() {
	outcomes, trouble, err := u.self.News()
	if err != nil {
		u.agent.log.Error("outcome of updates not read", agent.KeyErr, err)
		return
	}
	if len(outcomes) == 0 && trouble == "" {
		return
	}
	if trouble != "" {
		err = u.agent.outbox.PutEvent(api.ClassAlarm, "update.damaged", "", clip(trouble), nil)
	}
	for _, o := range outcomes {
		class, kind, text := api.ClassEvent, "update.succeeded", fmt.Sprintf("from %s to %s", o.From, o.Version)
		if !o.OK {
			class, kind, text = api.ClassAlarm, "update.failed", o.Failure()
		}
		err = errors.Join(err, u.agent.outbox.PutEvent(class, kind, o.Version, clip(text), nil))
	}
	if err == nil { // a kill before this has the next start tell it again
		err = u.self.Told()
	}
	if err != nil {
		u.agent.log.Warn("outcome of updates not told", agent.KeyErr, err)
	}
}
