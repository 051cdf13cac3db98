package verb

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// killAfter is what a process group has between SIGTERM and SIGKILL: less than the engine's grace, so that its end is
// seen.
const killAfter = 3 * time.Second

// Exec runs a program that the configuration allows. Arguments go to it as they are; no shell is involved.
type Exec struct {
	streams Streams
	rules   atomic.Pointer[[]rule]
}

// NewExec returns the verb exec. streams may be nil.
func NewExec(allow []Allow, streams Streams) (*Exec, error) {
	e := &Exec{streams: streams}
	if streams == nil {
		e.streams = noStreams{}
	}
	return e, e.Allow(allow)
}

// Allow replaces what may be run, or leaves it when allow has faults.
func (e *Exec) Allow(allow []Allow) error {
	rules, err := compileRules(allow)
	if err == nil || e.rules.Load() == nil {
		if err != nil {
			rules = nil
		}
		e.rules.Store(&rules)
	}
	return err
}

type execArgs struct {
	Argv   []string `json:"argv"`
	Stdin  string   `json:"stdin"`
	Stream string   `json:"stream"`
}

// Spec declares the verb.
func (*Exec) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "exec", Role: api.RoleOperator, Stream: true,
			Help: "Run an allowed program; its arguments never meet a shell.",
			Args: object(map[string]api.Schema{
				"argv": {Type: "array", Description: "an allowed name or path, then arguments",
					Items: &api.Schema{Type: "string", MaxLength: maxArgBytes}},
				"stdin":  {Type: "string", Description: "what the program reads", MaxLength: 32 << 10},
				"stream": streamArg("stdout (channel 1) and stderr (channel 2) while the program runs"),
			}, "argv")},
	}
}

// Prepare finds what allows the request.
func (e *Exec) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[execArgs](args)
	if err != nil {
		return nil, err
	}
	r, argv, err := match(*e.rules.Load(), in.Argv)
	if err != nil {
		return nil, err
	}
	credential, err := credentialOf(r.User)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) {
		p := &process{argv: argv, env: environment(r.Env), dir: r.Dir, stdin: in.Stdin, credential: credential}
		return e.run(ctx, p, r.Timeout, in.Stream)
	}, nil
}

var errTimeout = errors.New("timeout")

func (e *Exec) run(ctx context.Context, p *process, timeout time.Duration, sid string) (command.Outcome, error) {
	out := &tail{}
	stdout := &channel{ctx: ctx, tail: out, number: api.ChannelStdout}
	stderr := &channel{ctx: ctx, tail: out, number: api.ChannelStderr}
	if sid != "" {
		stream, err := e.streams.Open(ctx, sid)
		if err != nil {
			return command.Outcome{}, fmt.Errorf("%w: open stream %s: %w", command.ErrRejected, sid, err)
		}
		stdout.stream, stderr.stream = stream, stream
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		limited, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
	}
	defer cancel()
	exit, err := p.run(limited, stdout, stderr)
	if errors.Is(context.Cause(limited), errTimeout) && err != nil {
		err = fmt.Errorf("killed after its timeout of %s", timeout)
	}
	text, dropped := out.text()
	outcome := command.Outcome{Exit: exit, Output: text, Truncated: dropped}
	if stdout.stream != nil {
		lost := errors.Join(stdout.lost, stderr.lost)
		if lost == nil && ctx.Err() == nil {
			lost = errors.Join(stdout.stream.EndWrite(ctx, stdout.number), stderr.stream.EndWrite(ctx, stderr.number))
		}
		if lost = errors.Join(lost, closeStream(ctx, stdout.stream, err)); lost != nil {
			outcome.Result = map[string]any{"stream": lost.Error()}
		}
	}
	return outcome, err
}

// environment is all that a program gets: nothing of the agent's own.
func environment(extra map[string]string) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/"}
	for k, v := range extra {
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, k+"=") })
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return env
}

// failed makes an error of how a program ended.
func failed(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("program ended with %s", exit.ProcessState)
	}
	return err
}
