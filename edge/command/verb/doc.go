// Package verb holds what a node can be told to do, one file per verb. What a verb may touch is given by plain structs
// that can be replaced while it runs; what it does is bounded in size and ends with its context.
package verb

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Streams opens the byte streams that commands name in args.stream.
type Streams interface {
	// Open opens this side of stream sid, for as long as ctx.
	Open(ctx context.Context, sid string) (Stream, error)
}

// StreamsFunc lets a function be Streams.
type StreamsFunc func(ctx context.Context, sid string) (Stream, error)

// Open calls f.
func (f StreamsFunc) Open(ctx context.Context, sid string) (Stream, error) { return f(ctx, sid) }

// Stream is one side of a multiplexed byte stream. Write waits for credit. Read returns what arrived on any channel;
// io.EOF when there is no more.
type Stream interface {
	Write(ctx context.Context, channel uint8, p []byte) (int, error)
	Read(ctx context.Context) (channel uint8, data []byte, err error)
	EndWrite(ctx context.Context, channel uint8) error
	Close(ctx context.Context, err error) error
}

var errNoStreams = errors.New("this node has no streams; wanted a command without args.stream")

// noStreams is where streams come from on a node that has none.
type noStreams struct{}

// Open refuses.
func (noStreams) Open(context.Context, string) (Stream, error) { return nil, errNoStreams }

// closing bounds how long the end of a stream is told to the other side: also when the command's own time is over.
const closing = 2 * time.Second

// closeStream ends stream, with err as the reason when there is one.
func closeStream(ctx context.Context, stream Stream, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	return stream.Close(ctx, err)
}

// channels is a Stream that can read one channel to its end, which a Stream alone only knows of the whole.
type channels interface {
	Reader(ctx context.Context, channel uint8) io.Reader
}

// object is the schema of an arguments object that takes nothing but properties.
func object(properties map[string]api.Schema, required ...string) api.Schema {
	return api.Schema{Type: "object", Properties: properties, Required: required, AdditionalProperties: new(false)}
}

// streamArg describes args.stream.
func streamArg(what string) api.Schema {
	return api.Schema{Type: "string", Description: "id of a stream that carries " + what, MaxLength: api.MaxIDLength,
		Pattern: "^[a-z0-9][a-z0-9.-]*$"}
}
