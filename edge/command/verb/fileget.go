package verb

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

const (
	// maxInline is the largest file that travels in a status: its base64 fits api.MaxOutputBytes.
	maxInline = 24 << 10
	// DefaultMaxFile is the largest file that is read or written when the configuration does not say.
	DefaultMaxFile = 64 << 20
)

// errIrregular says that there is something that cannot be read or replaced as a file.
var errIrregular = errors.New("it is no regular file, but a directory, link, device or the like")

// FileGet reads a file of an allowed directory.
type FileGet struct {
	dirs    *Dirs
	streams Streams
	limit   int64
}

// NewFileGet returns the verb file.get. limit is the largest file in bytes, 0 for DefaultMaxFile. streams may be nil.
func NewFileGet(dirs *Dirs, streams Streams, limit int64) (*FileGet, error) {
	if dirs == nil || limit < 0 {
		return nil, fmt.Errorf("verb file.get: limit %d: wanted directories and no negative limit", limit)
	}
	if streams == nil {
		streams = noStreams{}
	}
	if limit == 0 {
		limit = DefaultMaxFile
	}
	return &FileGet{dirs, streams, limit}, nil
}

type getArgs struct {
	Path   string `json:"path"`
	Stream string `json:"stream"`
}

// Spec declares the verb.
func (*FileGet) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "file.get", Role: api.RoleOperator, Stream: true, Help: "Read a file of an allowed directory.",
			Args: object(map[string]api.Schema{
				"path":   {Type: "string", Description: "absolute", MaxLength: maxArgBytes},
				"stream": streamArg("the file (channel 1); without it at most 24 KiB come as base64 in the result"),
			}, "path")},
		Restart: command.Retry,
	}
}

// Prepare checks that the path is allowed.
func (f *FileGet) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[getArgs](args)
	if err != nil {
		return nil, err
	}
	at, err := f.dirs.find(in.Path)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, job *command.Job) (command.Outcome, error) {
		root, err := at.root()
		if err != nil {
			return command.Outcome{}, err
		}
		defer root.Close()
		// O_NONBLOCK: opening a pipe must not wait for its writer.
		file, err := root.OpenFile(at.rel, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return command.Outcome{}, fmt.Errorf("open %s: %w", at.path, err)
		}
		defer file.Close()
		return f.read(ctx, job, file, in)
	}, nil
}

func (f *FileGet) read(ctx context.Context, job *command.Job, file *os.File, in getArgs) (command.Outcome, error) {
	info, err := file.Stat()
	if err != nil {
		return command.Outcome{}, fmt.Errorf("read %s: %w", in.Path, err)
	}
	limit, size := f.limit, info.Size()
	if in.Stream == "" {
		limit = min(limit, maxInline)
	}
	switch {
	case !info.Mode().IsRegular():
		return command.Outcome{}, fmt.Errorf("read %s: %w", in.Path, errIrregular)
	case size > limit && in.Stream == "" && size <= f.limit:
		return command.Outcome{}, fmt.Errorf("read %s: it has %d bytes; wanted at most %d without a stream", in.Path, size, limit)
	case size > limit:
		return command.Outcome{}, fmt.Errorf("read %s: it has %d bytes; wanted at most %d", in.Path, size, limit)
	}
	sum := sha256.New()
	mode := "0" + strconv.FormatUint(uint64(info.Mode().Perm()), 8)
	result := map[string]any{"size": size, "mode": mode, "modified": api.At(info.ModTime())}
	from := io.TeeReader(io.LimitReader(file, size), sum)
	if in.Stream == "" {
		data, err := io.ReadAll(from)
		if err != nil {
			return command.Outcome{}, fmt.Errorf("read %s: %w", in.Path, err)
		}
		result["data"] = base64.StdEncoding.EncodeToString(data)
		return f.done(in, result, sum, int64(len(data)))
	}
	stream, err := f.streams.Open(ctx, in.Stream)
	if err != nil {
		return command.Outcome{}, fmt.Errorf("send %s: %w", in.Path, err)
	}
	n, err := send(ctx, stream, from, func(n int64) { job.Progress(fmt.Sprintf("%d of %d bytes", n, size)) })
	if err = errors.Join(err, closeStream(ctx, stream, err)); err != nil {
		return command.Outcome{}, fmt.Errorf("send %s: %w", in.Path, err)
	}
	return f.done(in, result, sum, n)
}

// done checks that the file did not shrink meanwhile, and adds its digest.
func (*FileGet) done(in getArgs, result map[string]any, sum hash.Hash, n int64) (command.Outcome, error) {
	if n != result["size"] {
		return command.Outcome{}, fmt.Errorf("read %s: it shrank from %d to %d bytes", in.Path, result["size"], n)
	}
	result["sha256"] = hex.EncodeToString(sum.Sum(nil))
	return command.Outcome{Result: result}, nil
}

// send copies from to stream, to its end.
func send(ctx context.Context, stream Stream, from io.Reader, report func(int64)) (n int64, err error) {
	buf := make([]byte, api.MaxFrameData)
	for {
		got, err := io.ReadFull(from, buf)
		if got > 0 {
			if _, err := stream.Write(ctx, api.ChannelStdout, buf[:got]); err != nil {
				return n, err
			}
			n += int64(got)
			report(n)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return n, stream.EndWrite(ctx, api.ChannelStdout)
		case err != nil:
			return n, err
		}
	}
}
