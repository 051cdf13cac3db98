package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

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
	judged  chan struct{} // closed when a trial before is no longer in doubt
	wish    wish

	one chan struct{} // holds one token: one update at a time
}

// tooOften is how often an update may be interrupted before its trial begins, tooOftenInAll with the wait for its window.
const tooOften, tooOftenInAll = 5, 20

func newUpdates(a *Agent, self *update.Self) (*updates, error) {
	u := &updates{agent: a, self: self, settled: make(chan struct{}), judged: make(chan struct{}), one: make(chan struct{}, 1), wish: wish{wake: make(chan struct{}, 1)}}
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
	if err := u.inWindow(ctx, job.Command.ID, args.Window, job.Progress); err != nil {
		return command.Outcome{}, err
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
			return u.outcome(ctx, o)
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
	if job.Attempts >= tooOften && (args.Window == "" || job.Attempts >= tooOftenInAll) {
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

// inWindow waits for the window of a command that has not begun. Its deadline ends the wait.
func (u *updates) inWindow(ctx context.Context, id, window string, progress func(string)) error {
	s, err := u.self.State()
	if err != nil {
		return err
	}
	if _, ended := s.Outcome(id); ended || s.Trial != nil && s.Trial.Command == id {
		return nil
	}
	want := api.AgentWant{Window: window}
	for told := false; ; told = true {
		open, err := want.Opens(u.agent.clock.Now())
		if err != nil || open {
			return err
		}
		if !told {
			progress("waiting for the window " + window + " UTC")
		}
		if !agent.Wait(ctx, lookAgain) {
			return context.Cause(ctx)
		}
	}
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
func (u *updates) outcome(ctx context.Context, o update.Outcome) (command.Outcome, error) {
	if o.Doubt {
		select {
		case <-u.judged:
		case <-ctx.Done():
			return command.Outcome{}, context.Cause(ctx)
		}
		if s, err := u.self.State(); err == nil {
			o, _ = s.Outcome(o.Command)
		}
	}
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
	i := &update.Installer{Self: u.self, Keys: u.keys, Window: a.cfg.Update.Window, Running: agent.Version(), Try: [][]string{{"config"}}, Passes: ExitMissing,
		Offline: func() bool { return !a.line.up() },
		Site: &update.Site{Endpoints: func() []string { return a.keeper.Current().Endpoints },
			TLS:    func(host string) *tls.Config { return a.keeper.Current().SiteTLS(host, a.clock) },
			Mirror: func() *tls.Config { return a.keeper.Current().MirrorTLS() }}}
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
	u.judge(ctx)
	u.tell()
	return u.converge(ctx)
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
