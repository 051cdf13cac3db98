package verb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

const (
	// AgentLog names the agent's own log among the sources.
	AgentLog = "agent"
	// maxTailBytes bounds how far back log.tail looks.
	maxTailBytes = 1 << 20
	defaultLines = 100
)

// Log is a file that log.tail may show.
type Log struct {
	Name string
	Path string // absolute; a link is followed, for this name is the configuration's
}

// LogTail shows the end of a log, and what comes after it.
type LogTail struct {
	ring    *Ring
	streams Streams
	logs    atomic.Pointer[[]Log]
}

// NewLogTail returns the verb log.tail. ring is where the agent's own log goes. streams may be nil.
func NewLogTail(ring *Ring, logs []Log, streams Streams) (*LogTail, error) {
	if ring == nil {
		return nil, errors.New("verb log.tail: wanted the agent's own log")
	}
	if streams == nil {
		streams = noStreams{}
	}
	l := &LogTail{ring: ring, streams: streams}
	return l, l.Allow(logs)
}

// Allow replaces the sources, or leaves them when logs has faults.
func (l *LogTail) Allow(logs []Log) error {
	var faults []error
	for i, log := range logs {
		if log.Name == "" || log.Name == AgentLog || !filepath.IsAbs(log.Path) {
			faults = append(faults, fmt.Errorf("logs[%d] %q, %q: wanted a name other than %s and an absolute path",
				i, log.Name, log.Path, AgentLog))
		}
	}
	err := errors.Join(faults...)
	if err == nil || l.logs.Load() == nil {
		list := slices.Clone(logs)
		if err != nil {
			list = nil
		}
		l.logs.Store(&list)
	}
	return err
}

type logArgs struct {
	Source string `json:"source"`
	Lines  *int   `json:"lines"`
	Follow bool   `json:"follow"`
	Stream string `json:"stream"`
}

// Spec declares the verb.
func (*LogTail) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "log.tail", Role: api.RoleOperator, Stream: true,
			Help: "Show the end of a log of the node, or of the agent's own.",
			Args: object(map[string]api.Schema{
				"source": {Type: "string", Description: "a configured log, or agent; agent when left out", MaxLength: api.MaxLabelBytes},
				"lines":  {Type: "integer", Description: "100 when left out", Minimum: new(0.0), Maximum: new(10000.0)},
				"follow": {Type: "boolean", Description: "go on with what is written until the stream is closed; needs one"},
				"stream": streamArg("the lines (channel 1)"),
			})},
		Restart: command.Retry, Follows: true,
	}
}

// Prepare finds the source.
func (l *LogTail) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[logArgs](args)
	if err != nil {
		return nil, err
	}
	if in.Follow && in.Stream == "" {
		return nil, errors.New("args.follow needs args.stream")
	}
	lines := defaultLines
	if in.Lines != nil {
		lines = *in.Lines
	}
	var read follower = &ringFollower{ring: l.ring}
	if in.Source != "" && in.Source != AgentLog {
		path, err := l.path(in.Source)
		if err != nil {
			return nil, err
		}
		read = &fileFollower{path: path}
	}
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) {
		return l.show(ctx, read, lines, in)
	}, nil
}

func (l *LogTail) path(source string) (string, error) {
	names := []string{AgentLog}
	for _, log := range *l.logs.Load() {
		if log.Name == source {
			return log.Path, nil
		}
		names = append(names, log.Name)
	}
	return "", fmt.Errorf("args.source %.40q is unknown on this node; wanted %s", source, strings.Join(names, ", "))
}

func (l *LogTail) show(ctx context.Context, read follower, lines int, in logArgs) (command.Outcome, error) {
	var out command.Outcome
	defer read.close()
	data, err := read.more()
	if err != nil {
		return out, err
	}
	data = lastLines(data, lines)
	if in.Stream == "" {
		keep := &tail{}
		keep.add(data)
		out.Output, out.Truncated = keep.text()
		return out, nil
	}
	stream, err := l.streams.Open(ctx, in.Stream)
	if err != nil {
		return out, fmt.Errorf("%w: open stream %s: %w", command.ErrRejected, in.Stream, err)
	}
	if in.Follow {
		err = follow(ctx, read, stream, data)
	} else if _, err = stream.Write(ctx, api.ChannelStdout, data); err == nil {
		err = stream.EndWrite(ctx, api.ChannelStdout)
	}
	return out, errors.Join(err, closeStream(ctx, stream, err))
}

// follow sends data and what comes after it, until ctx ends, which is an error, or the other side closes the stream,
// which is how following is meant to end.
func follow(ctx context.Context, read follower, stream Stream, data []byte) error {
	watched, left := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer left(nil)
	watching.Go(func() {
		for {
			if _, _, err := stream.Read(watched); err != nil {
				left(err)
				return
			}
		}
	})
	for {
		if _, err := stream.Write(watched, api.ChannelStdout, data); err != nil {
			return ending(ctx, watched, err)
		}
		if !read.wait(watched) {
			return ending(ctx, watched, context.Cause(watched))
		}
		var err error
		if data, err = read.more(); err != nil {
			return err
		}
	}
}

// ending is nil when the other side has closed the stream in good order, and err otherwise.
func ending(ctx, watched context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(context.Cause(watched), io.EOF) {
		return nil
	}
	return err
}

// lastLines returns the last n lines of data.
func lastLines(data []byte, n int) []byte {
	at := len(data)
	if at > 0 && data[at-1] == '\n' {
		at--
	}
	for range n {
		if at = bytes.LastIndexByte(data[:max(at, 0)], '\n'); at < 0 {
			return data
		}
	}
	if n == 0 {
		return nil
	}
	return data[at+1:]
}
