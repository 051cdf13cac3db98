package edge

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/command/verb"
	"github.com/skerry-edge/skerry/edge/update"
)

// verbs is what this node can be told to do.
type verbs struct{ list []command.Verb }

func newVerbs(a *Agent) (*verbs, error) {
	cfg := a.cfg.Command
	read, err := verb.NewDirs(cfg.Read)
	if err != nil {
		return nil, fmt.Errorf("command.read: %w", err)
	}
	written, err := verb.NewDirs(cfg.Write)
	if err != nil {
		return nil, fmt.Errorf("command.write: %w", err)
	}
	streams := verb.StreamsFunc(func(ctx context.Context, sid string) (verb.Stream, error) { return a.streams.Open(ctx, sid) })
	v := &verbs{list: []command.Verb{verb.NewPing(a.clock)}}
	for _, build := range []func() (command.Verb, error){
		func() (command.Verb, error) { return verb.NewInfo(a.describe) },
		func() (command.Verb, error) { return verb.NewTelemetryNow(a.clock, a.measure) },
		func() (command.Verb, error) { return verb.NewExec(allowed(cfg.Exec), streams) },
		func() (command.Verb, error) { return verb.NewLogTail(a.ring, logs(cfg.Logs), streams) },
		func() (command.Verb, error) { return verb.NewFileGet(read, streams, int64(cfg.MaxFileBytes)) },
		func() (command.Verb, error) { return verb.NewFilePut(written, streams, int64(cfg.MaxFileBytes)) },
		func() (command.Verb, error) { return verb.NewConfigSet(a.settings.set) },
		func() (command.Verb, error) { return verb.NewAgentRestart(a.beginRestart) },
		func() (command.Verb, error) { return verb.NewAgentUpdate(a.updates.order) },
		func() (command.Verb, error) { return verb.NewReboot(cfg.AllowReboot, a.reboot) },
	} {
		made, err := build()
		if err != nil {
			return nil, err
		}
		v.list = append(v.list, made)
	}
	more, err := verb.NewWorkloads(a.workloads, streams)
	v.list = append(v.list, more...)
	v.list = append(v.list, verb.NewK3s(a.k3s != nil, member{a})...)
	return v, err
}

func allowed(list []configs.Exec) []verb.Allow {
	out := make([]verb.Allow, 0, len(list))
	for _, e := range list {
		out = append(out, verb.Allow{Name: e.Name, Argv: e.Argv, Args: e.Args, User: e.User, Dir: e.Dir, Env: e.Env, Timeout: e.Timeout})
	}
	return out
}

func logs(paths []string) []verb.Log {
	out := make([]verb.Log, 0, len(paths))
	for _, p := range paths {
		out = append(out, verb.Log{Name: p, Path: p})
	}
	return out
}

// describe is the verb info.
func (a *Agent) describe(context.Context) (map[string]any, error) {
	st := a.status()
	return map[string]any{"node": st.Node, "version": st.Version, "host": a.host, "started": st.Started, "certificate": st.Certificate,
		"backlog": st.Backlog, "timeQuality": st.TimeQuality, "link": st.Link, "config": a.settings.report()}, nil
}

// measure is the verb telemetry.now.
func (a *Agent) measure(ctx context.Context) (map[string]float64, error) {
	scrape, err := a.probes.Now(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]float64, len(scrape.Samples))
	for _, s := range scrape.Samples {
		out[s.Series] = s.Value
	}
	return out, nil
}

// beginRestart ends the agent's context; Run then replaces the process.
func (a *Agent) beginRestart(context.Context) error {
	a.restart(errRestart)
	return nil
}

// reexec starts what is due of this node's programs in the place of this process, with the same arguments (but for a concealed join string) and
// pid, so that a service manager sees no failure and a node without one is not left alone.
func (a *Agent) reexec() error {
	self := a.updates.self
	if self == nil {
		self = &update.Self{}
	}
	return self.Restart(shown(os.Args))
}

// reboot writes out what is in memory and asks the kernel to reboot. The delay lets the link say goodbye.
func (a *Agent) reboot(ctx context.Context) error {
	a.event(api.ClassAlarm, "machine.reboot", "", "reboot was ordered")
	if !agent.Wait(ctx, 2*time.Second) {
		return ctx.Err()
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return nil
}
