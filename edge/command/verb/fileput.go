package verb

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"syscall"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// FilePut writes a file in an allowed directory: whole, checked and synced, or not at all.
type FilePut struct {
	dirs    *Dirs
	streams Streams
	limit   int64
}

// NewFilePut returns the verb file.put. limit is the largest file in bytes, 0 for DefaultMaxFile. streams may be nil.
func NewFilePut(dirs *Dirs, streams Streams, limit int64) (*FilePut, error) {
	if dirs == nil || limit < 0 {
		return nil, fmt.Errorf("verb file.put: limit %d: wanted directories and no negative limit", limit)
	}
	if streams == nil {
		streams = noStreams{}
	}
	if limit == 0 {
		limit = DefaultMaxFile
	}
	return &FilePut{dirs, streams, limit}, nil
}

type putArgs struct {
	Path    string  `json:"path"`
	SHA256  string  `json:"sha256"`
	Size    int64   `json:"size"`
	Mode    string  `json:"mode"`
	NewMode string  `json:"newMode"`
	Data    *string `json:"data"`
	Stream  string  `json:"stream"`
}

// Spec declares the verb.
func (f *FilePut) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "file.put", Role: api.RoleOperator, Stream: true,
			Help: "Write a file in an allowed directory, whole or not at all.",
			Args: object(map[string]api.Schema{
				"path":   {Type: "string", Description: "absolute; its directory must be there", MaxLength: maxArgBytes},
				"sha256": {Type: "string", Description: "of the content, lower-case hex", Pattern: "^[0-9a-f]{64}$"},
				"size":   {Type: "integer", Description: "bytes of the content", Minimum: new(0.0)},
				"mode":   {Type: "string", Description: "in octal; when left out, that of the file that is there", Pattern: octal},
				"newMode": {Type: "string", Description: "in octal, of a file that is not there yet, less what 022 takes away; 0644 when left out",
					Pattern: octal},
				"data": {Type: "string", Description: "the content as base64, instead of a stream",
					MaxLength: base64.StdEncoding.EncodedLen(maxInline)},
				"stream": streamArg("the content (channel 0)"),
			}, "path", "sha256", "size")},
	}
}

// octal are permissions without setuid, setgid and sticky.
const octal = "^0?[0-7]{3}$"

// upload is a checked request.
type upload struct {
	place
	putArgs
	mode fs.FileMode // as asked for, else of a new file
	data []byte      // nil: from the stream
}

// Prepare checks everything that does not need the disk.
func (f *FilePut) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[putArgs](args)
	if err != nil {
		return nil, err
	}
	u := &upload{putArgs: in}
	if u.place, err = f.dirs.find(in.Path); err != nil {
		return nil, err
	}
	if in.Size > f.limit {
		return nil, fmt.Errorf("args.size is %d; wanted at most %d", in.Size, f.limit)
	}
	if (in.Data == nil) == (in.Stream == "") {
		return nil, errors.New("args.data and args.stream: wanted one of them")
	}
	bits, err := strconv.ParseUint(cmp.Or(in.Mode, in.NewMode, "0644"), 8, 9)
	if err != nil {
		return nil, fmt.Errorf("args.mode %q, args.newMode %q: wanted permissions in octal", in.Mode, in.NewMode)
	}
	if u.mode = fs.FileMode(bits); in.Mode == "" { // nobody asked for a file that others may write
		u.mode &^= 0o022
	}
	if in.Data != nil {
		if u.data, err = base64.StdEncoding.DecodeString(*in.Data); err != nil {
			return nil, fmt.Errorf("args.data: %w", err)
		}
		if int64(len(u.data)) != in.Size {
			return nil, fmt.Errorf("args.data has %d bytes; wanted the %d of args.size", len(u.data), in.Size)
		}
	}
	return func(ctx context.Context, job *command.Job) (command.Outcome, error) {
		if err := f.put(ctx, job, u); err != nil {
			return command.Outcome{}, fmt.Errorf("write %s: %w", u.path, err)
		}
		return command.Outcome{Result: map[string]any{"size": in.Size, "sha256": in.SHA256}}, nil
	}, nil
}

// Clean removes what a put that was killed left beside its target.
func (f *FilePut) Clean(id string, args map[string]any) error {
	in, err := command.Decode[putArgs](args)
	if err != nil {
		return err
	}
	at, err := f.dirs.find(in.Path)
	if err != nil {
		return err
	}
	root, err := at.root()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(at.temporary(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove partial file: %w", err)
	}
	return nil
}

// temporary is where the content of command id is written before it is whole.
func (p place) temporary(id string) string { return path.Join(path.Dir(p.rel), ".skerry-put-"+id) }

func (f *FilePut) put(ctx context.Context, job *command.Job, u *upload) (err error) {
	root, err := u.root()
	if err != nil {
		return err
	}
	defer root.Close()
	if info, err := root.Lstat(u.rel); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w; wanted one or nothing there", errIrregular)
	}
	parent, err := root.OpenRoot(path.Dir(u.rel)) // what is renamed meanwhile does not lead elsewhere
	if err != nil {
		return err
	}
	defer parent.Close()
	dir, err := parent.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := room(dir, u.Size); err != nil {
		return err
	}
	name := path.Base(u.temporary(job.Command.ID))
	file, err := parent.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, gone(parent.Remove(name)))
		}
	}()
	if err = f.fill(ctx, job, u, file); err == nil {
		err = u.dress(parent, file)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // too late: it must not appear after the command has been closed
		return context.Cause(ctx)
	}
	if err := parent.Rename(name, path.Base(u.rel)); err != nil {
		return err
	}
	return dir.Sync()
}

// gone is err unless it says that there is nothing.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// dress gives file the owner of the file that it replaces, and its mode unless one was asked for, and syncs it. It was
// readable by nobody else until here.
func (u *upload) dress(parent *os.Root, file *os.File) error {
	was, err := parent.Lstat(path.Base(u.rel))
	if err == nil {
		if owner, ok := was.Sys().(*syscall.Stat_t); ok {
			if err := file.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
				return fmt.Errorf("keep its owner: %w", err)
			}
		}
		if u.Mode == "" {
			u.mode = was.Mode().Perm()
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := file.Chmod(u.mode); err != nil {
		return err
	}
	return file.Sync()
}

// fill writes and checks the content.
func (f *FilePut) fill(ctx context.Context, job *command.Job, u *upload, file *os.File) (err error) {
	var content io.Reader = bytes.NewReader(u.data)
	if u.Stream != "" {
		stream, err := f.streams.Open(ctx, u.Stream)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeStream(ctx, stream, err)) }()
		content = &inbound{ctx: ctx, stream: stream}
		if c, ok := stream.(channels); ok {
			content = c.Reader(ctx, api.ChannelStdin)
		}
	}
	sum, err := copySum(file, content, u.Size, func(n int64) { job.Progress(fmt.Sprintf("%d of %d bytes", n, u.Size)) })
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum); got != u.SHA256 {
		return fmt.Errorf("content has the SHA-256 %s; wanted %s", got, u.SHA256)
	}
	return nil
}
