package verb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/workload"
	"github.com/skerry-edge/skerry/mqtt"
)

type workloadExec struct {
	workloads Conversations
	streams   Streams
}

type workloadExecArgs struct {
	Workload  string   `json:"workload"`
	Container string   `json:"container"`
	Argv      []string `json:"argv"`
	TTY       bool     `json:"tty"`
	Stdin     *bool    `json:"stdin"`
	Stream    string   `json:"stream"`
}

// conversation describes what a stream carries that is held with a container.
const conversation = "stdin (channel 0), stdout (1), stderr (2) and sizes of the terminal (4, JSON with Width and Height)"

// Spec declares the verb.
func (*workloadExec) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "workload.exec", Role: api.RoleOperator, Stream: true, Help: "Run a command in a running container.",
			Args: object(places(map[string]api.Schema{
				"argv":   {Type: "array", Description: "the command; no shell is involved", Items: &api.Schema{Type: "string", MaxLength: maxArgBytes}},
				"tty":    {Type: "boolean", Description: "give it a terminal"},
				"stdin":  {Type: "boolean", Description: "false: it has nothing to read although there is a stream"},
				"stream": streamArg(conversation),
			}), "workload", "argv")},
		Converses: true,
	}
}

// Prepare checks that the container runs.
func (v *workloadExec) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[workloadExecArgs](args)
	if err != nil {
		return nil, err
	}
	if len(in.Argv) == 0 || in.Argv[0] == "" {
		return nil, errors.New("args.argv is empty; wanted a command")
	}
	if in.TTY && in.Stream == "" {
		return nil, errors.New("args.tty needs args.stream")
	}
	if err := v.workloads.Check(in.Workload, in.Container); err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) { return v.run(ctx, &in) }, nil
}

func (v *workloadExec) run(ctx context.Context, in *workloadExecArgs) (out command.Outcome, err error) {
	x := workload.Exec{Argv: in.Argv, TTY: in.TTY}
	call := func(ctx context.Context) error {
		exit, err := v.workloads.Exec(ctx, in.Workload, in.Container, x)
		if err != nil {
			return err
		}
		out.Exit = &exit // whatever it is, the conversation has ended well
		return nil
	}
	defer func() {
		if err == nil && out.Exit != nil && *out.Exit != 0 {
			err = fmt.Errorf("command ended with exit code %d", *out.Exit)
		}
	}()
	if in.Stream == "" {
		keep := &tail{}
		writer := &channel{ctx: ctx, tail: keep}
		x.Stdout, x.Stderr = writer, writer
		err = call(ctx)
		out.Output, out.Truncated = keep.text()
		return out, err
	}
	t, err := converse(ctx, v.streams, in.Stream)
	if err != nil {
		return out, err
	}
	err = t.with(in.Stdin == nil || *in.Stdin, in.TTY, func(s workload.Streams) error {
		x.Streams = s
		return call(t.ctx)
	})
	return out, err
}

// with has f talk over the streams of t, and ends t.
func (t *talk) with(stdin, tty bool, f func(workload.Streams) error) error {
	s := workload.Streams{Stdout: t.writer(api.ChannelStdout), Stderr: t.writer(api.ChannelStderr)}
	if stdin {
		s.Stdin = t.reader(api.ChannelStdin)
	}
	var sizing sync.WaitGroup
	if tty {
		sizes := make(chan workload.Size, 1)
		s.Resize, s.Stderr = sizes, nil // a terminal has one output
		sizing.Go(func() { resize(t.ctx, t.reader(api.ChannelResize), sizes) })
	}
	err := f(s)
	if t.left() {
		err = errLeft
	}
	if err == nil && t.ctx.Err() == nil {
		err = errors.Join(t.stream.EndWrite(t.ctx, api.ChannelStdout), t.stream.EndWrite(t.ctx, api.ChannelStderr))
	}
	if errors.Is(err, mqtt.ErrStreamClosed) { // seen here before the watch has seen it
		err = errLeft
	}
	err = t.end(err)
	sizing.Wait()
	return err
}

// resize passes sizes on; the newest counts.
func resize(ctx context.Context, from io.Reader, to chan workload.Size) {
	dec := json.NewDecoder(from)
	for {
		var size workload.Size
		if dec.Decode(&size) != nil {
			return
		}
		for sent := false; !sent; {
			select {
			case to <- size:
				sent = true
			case <-ctx.Done():
				return
			default:
				select {
				case <-to: // an older one that nobody took
				default:
				}
			}
		}
	}
}

type workloadAttach struct {
	workloads Conversations
	streams   Streams
}

type workloadAttachArgs struct {
	Workload  string `json:"workload"`
	Container string `json:"container"`
	TTY       bool   `json:"tty"`
	Stdin     *bool  `json:"stdin"`
	Stream    string `json:"stream"`
}

// Spec declares the verb.
func (*workloadAttach) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "workload.attach", Role: api.RoleOperator, Stream: true, Help: "Tie a stream to a running container.",
			Args: object(places(map[string]api.Schema{
				"tty":    {Type: "boolean", Description: "the container has a terminal"},
				"stdin":  {Type: "boolean", Description: "false: nothing is sent to it"},
				"stream": streamArg(conversation),
			}), "workload", "stream")},
		Converses: true,
	}
}

// Prepare checks that the container runs.
func (v *workloadAttach) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[workloadAttachArgs](args)
	if err != nil {
		return nil, err
	}
	if err := v.workloads.Check(in.Workload, in.Container); err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) {
		t, err := converse(ctx, v.streams, in.Stream)
		if err != nil {
			return command.Outcome{}, err
		}
		err = t.with(in.Stdin == nil || *in.Stdin, in.TTY, func(s workload.Streams) error {
			return v.workloads.Attach(t.ctx, in.Workload, in.Container, s)
		})
		if errors.Is(err, errLeft) { // which is how attaching is meant to end
			err = nil
		}
		return command.Outcome{}, err
	}, nil
}

type workloadForward struct {
	workloads Conversations
	streams   Streams
}

type workloadForwardArgs struct {
	Workload string `json:"workload"`
	Port     int    `json:"port"`
	Stream   string `json:"stream"`
}

// Spec declares the verb.
func (*workloadForward) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "workload.forward", Role: api.RoleOperator, Stream: true, Help: "Connect to a port of a running workload.",
			Args: object(map[string]api.Schema{
				"workload": {Type: "string", Description: "name of the workload: of a pod, its UID", MaxLength: api.MaxIDLength},
				"port":     {Type: "integer", Description: "TCP, on the node's own network", Minimum: new(1.0), Maximum: new(65535.0)},
				"stream":   streamArg("one connection: what is sent (channel 0) and what comes back (channel 1)"),
			}, "workload", "port", "stream")},
		Converses: true,
	}
}

// Prepare checks that the workload runs.
func (v *workloadForward) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[workloadForwardArgs](args)
	if err != nil {
		return nil, err
	}
	if err := v.workloads.Alive(in.Workload); err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) {
		t, err := converse(ctx, v.streams, in.Stream)
		if err != nil {
			return command.Outcome{}, err
		}
		err = t.end(t.forward(in.Port))
		if errors.Is(err, errLeft) { // which is how forwarding is meant to end
			err = nil
		}
		return command.Outcome{}, err
	}, nil
}

// forward ties the stream to a port until both directions have ended, or the other side leaves.
func (t *talk) forward(port int) error {
	conn, err := (&net.Dialer{}).DialContext(t.ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(t.ctx, func() { _ = conn.Close() }) // ends both copies
	defer stop()
	var sending sync.WaitGroup
	sending.Go(func() {
		_, err := io.Copy(conn, t.reader(api.ChannelStdin))
		if half, ok := conn.(*net.TCPConn); ok && err == nil {
			_ = half.CloseWrite() // what comes back may go on
		}
	})
	_, err = io.Copy(t.writer(api.ChannelStdout), conn)
	if err == nil {
		err = t.stream.EndWrite(t.ctx, api.ChannelStdout)
	}
	_ = conn.Close() // what ends here is told by err
	t.cancel(nil)    // nothing more is read from the other side
	sending.Wait()
	if t.left() || errors.Is(err, mqtt.ErrStreamClosed) {
		return errLeft
	}
	return err
}
