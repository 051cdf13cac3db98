package verb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/workload"
	"github.com/skerry-edge/skerry/mqtt"
)

// Workloads is what the verbs about workloads need of them.
type Workloads interface {
	Conversations
	Log(ctx context.Context, q workload.LogQuery, out func(channel uint8, line []byte) error) error
	Stats(ctx context.Context) (list []workload.Usage, failed int)
}

// Conversations are held with running containers. An empty container is the only one of its workload.
type Conversations interface {
	Check(workload, container string) error // why one cannot begin
	Alive(workload string) error
	Exec(ctx context.Context, workload, container string, x workload.Exec) (exit int, err error)
	Attach(ctx context.Context, workload, container string, s workload.Streams) error
}

// NewWorkloads returns the verbs about workloads.
func NewWorkloads(w Workloads, streams Streams) ([]command.Verb, error) {
	if w == nil || streams == nil {
		return nil, errors.New("verbs workload.*: wanted workloads and streams")
	}
	return []command.Verb{&workloadLogs{w, streams}, &workloadExec{w, streams}, &workloadAttach{w, streams}, &workloadForward{w, streams}, &workloadStats{w}}, nil
}

// places are the arguments that name a container.
func places(more map[string]api.Schema) map[string]api.Schema {
	more["workload"] = api.Schema{Type: "string", Description: "name of the workload: of a pod, its UID", MaxLength: api.MaxIDLength}
	more["container"] = api.Schema{Type: "string", Description: "its container; may be left out when it has one", MaxLength: api.MaxIDLength}
	return more
}

type workloadLogs struct {
	workloads Workloads
	streams   Streams
}

type workloadLogsArgs struct {
	Workload   string `json:"workload"`
	Container  string `json:"container"`
	Previous   bool   `json:"previous"`
	Tail       *int   `json:"tail"`
	Since      string `json:"since"`
	Follow     bool   `json:"follow"`
	Timestamps bool   `json:"timestamps"`
	LimitBytes int64  `json:"limitBytes"`
	Stream     string `json:"stream"`
}

// Spec declares the verb.
func (*workloadLogs) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "workload.logs", Role: api.RoleOperator, Stream: true, Help: "Show what a container has written.",
			Args: object(places(map[string]api.Schema{
				"previous":   {Type: "boolean", Description: "of the run before the latest"},
				"tail":       {Type: "integer", Description: "lines, counted from the end; all when left out", Minimum: new(0.0)},
				"since":      {Type: "string", Description: "an RFC 3339 instant, or how long ago: 10m", MaxLength: api.MaxIDLength},
				"follow":     {Type: "boolean", Description: "go on until the container ends or the stream is closed; needs one"},
				"timestamps": {Type: "boolean", Description: "before each line, in RFC 3339"},
				"limitBytes": {Type: "integer", Description: "bytes at most", Minimum: new(1.0)},
				"stream":     streamArg("what it wrote to stdout (channel 1) and stderr (channel 2), in order"),
			}), "workload")},
		Restart: command.Retry, Converses: true,
	}
}

// Prepare reads the arguments.
func (v *workloadLogs) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[workloadLogsArgs](args)
	if err != nil {
		return nil, err
	}
	if in.Follow && in.Stream == "" {
		return nil, errors.New("args.follow needs args.stream")
	}
	q := workload.LogQuery{Workload: in.Workload, Container: in.Container, Previous: in.Previous, Tail: -1, Follow: in.Follow, Timestamps: in.Timestamps,
		Limit: in.LimitBytes}
	if in.Tail != nil {
		q.Tail = *in.Tail
	}
	if in.Since != "" {
		if q.Since, err = time.Parse(time.RFC3339, in.Since); err != nil {
			ago, err := time.ParseDuration(in.Since)
			if err != nil {
				return nil, fmt.Errorf("args.since %.40q: wanted an RFC 3339 instant or a duration such as 10m", in.Since)
			}
			q.Since = time.Now().Add(-ago)
		}
	}
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) { return v.show(ctx, q, in.Stream) }, nil
}

func (v *workloadLogs) show(ctx context.Context, q workload.LogQuery, sid string) (out command.Outcome, err error) {
	if sid == "" {
		keep := &tail{}
		err := v.workloads.Log(ctx, q, func(_ uint8, line []byte) error {
			keep.add(line)
			return nil
		})
		out.Output, out.Truncated = keep.text()
		return out, err
	}
	t, err := converse(ctx, v.streams, sid)
	if err != nil {
		return out, err
	}
	defer func() { err = t.end(err) }()
	err = v.workloads.Log(t.ctx, q, func(channel uint8, line []byte) error {
		_, err := t.stream.Write(t.ctx, channel, line)
		return err
	})
	if t.left() || errors.Is(err, mqtt.ErrStreamClosed) {
		return out, nil // which is how following is meant to end
	}
	return out, err
}

// talk is a conversation over a stream.
type talk struct {
	parent context.Context // of the action
	ctx    context.Context // ends when the other side leaves, too
	cancel context.CancelCauseFunc
	stream Stream
	done   chan struct{}
}

// errLeft says that the other side has closed the stream in good order.
var errLeft = errors.New("the other side has left")

// converse opens a stream and watches it: nobody sends on the channel of errors, so that a read of it ends with the stream.
func converse(ctx context.Context, streams Streams, sid string) (*talk, error) {
	stream, err := streams.Open(ctx, sid)
	if err != nil {
		return nil, fmt.Errorf("%w: open stream %s: %w", command.ErrRejected, sid, err)
	}
	t := &talk{parent: ctx, stream: stream, done: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	watch := t.reader(api.ChannelError)
	go func() {
		defer close(t.done)
		_, err := io.Copy(io.Discard, watch)
		if err == nil {
			err = errLeft
		}
		t.cancel(err)
	}()
	return t, nil
}

// reader reads one channel to its end.
func (t *talk) reader(channel uint8) io.Reader {
	if c, ok := t.stream.(channels); ok {
		return c.Reader(t.ctx, channel)
	}
	return eof{}
}

type eof struct{}

// Read has nothing.
func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// writer writes to one channel.
func (t *talk) writer(channel uint8) io.Writer { return &talkWriter{t, channel} }

type talkWriter struct {
	t       *talk
	channel uint8
}

// Write waits for credit.
func (w *talkWriter) Write(p []byte) (int, error) { return w.t.stream.Write(w.t.ctx, w.channel, p) }

// left reports whether the other side has ended the conversation.
func (t *talk) left() bool { return t.parent.Err() == nil && errors.Is(context.Cause(t.ctx), errLeft) }

// end closes the stream, with err as the reason when there is one, and waits for the watch of it.
func (t *talk) end(err error) error {
	closing := closeStream(t.parent, t.stream, err)
	t.cancel(nil)
	<-t.done
	if t.left() {
		closing = nil
	}
	return errors.Join(err, closing)
}

type workloadStats struct{ workloads Workloads }

// Spec declares the verb.
func (*workloadStats) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "workload.stats", Role: api.RoleOperator, Safe: true, Help: "Tell what every running container uses.",
			Args: object(map[string]api.Schema{})},
		Restart: command.Retry,
	}
}

// Prepare reads the arguments, of which there are none.
func (v *workloadStats) Prepare(args map[string]any) (command.Action, error) {
	if _, err := command.Decode[struct{}](args); err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) {
		list, failed := v.workloads.Stats(ctx)
		if list == nil {
			list = []workload.Usage{}
		}
		return command.Outcome{Result: map[string]any{"containers": list, "failed": failed}}, nil
	}, nil
}
