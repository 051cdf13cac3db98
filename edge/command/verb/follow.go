package verb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
)

const (
	// lookEvery is how often a followed file is looked at.
	lookEvery = 500 * time.Millisecond
	// maxOldLooks is how often a file that has lost its name is read while there is more in it.
	maxOldLooks = 16
	// knownBytes of what was read last are compared, to notice that a file was truncated and has grown past it.
	knownBytes = 64
)

// follower reads a log: its end first, then what was added since, blocking in wait until there may be more.
type follower interface {
	more() ([]byte, error)
	wait(ctx context.Context) bool
	close()
}

// gap marks in a followed log that something is missing.
func gap(what string) []byte { return []byte("\n[skerry: " + what + "]\n") }

// ringFollower follows the agent's own log.
type ringFollower struct {
	ring    *Ring
	pos     int64
	changed <-chan struct{}
}

func (f *ringFollower) more() ([]byte, error) {
	first, was := f.changed == nil, f.pos
	var data []byte
	data, f.pos, f.changed = f.ring.since(was)
	lost := f.pos - was - int64(len(data))
	if first || lost == 0 {
		return data, nil
	}
	part := bytes.IndexByte(data, '\n') + 1 // the end of a line that has lost its beginning
	return append(gap(fmt.Sprintf("%d bytes of this log were skipped", lost+int64(part))), data[part:]...), nil
}

func (f *ringFollower) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-f.changed:
		return true
	}
}

func (*ringFollower) close() {}

// fileFollower follows a file by its name, through rotation and truncation. A file that has lost its name is read until
// it gives nothing at a look: its writer may go on with it for a while.
type fileFollower struct {
	path  string
	file  *os.File // nil: nothing read yet
	pos   int64
	known []byte   // what is before pos
	next  *os.File // has the name by now; nil: file still has
	looks int      // at file, since next is there
	full  bool     // the last look may have left something
}

func (f *fileFollower) wait(ctx context.Context) bool {
	if f.full {
		return ctx.Err() == nil
	}
	return agent.Wait(ctx, lookEvery)
}

func (f *fileFollower) close() {
	_ = f.file.Close() // nil, or only read
	_ = f.next.Close()
}

func (f *fileFollower) more() ([]byte, error) {
	if f.file == nil {
		file, info, err := f.open()
		if err != nil {
			return nil, err
		}
		f.file, f.pos = file, max(0, info.Size()-maxTailBytes)
		return f.read()
	}
	if err := f.look(); err != nil {
		return nil, err
	}
	data, err := f.read()
	f.looks++
	if err != nil || f.next == nil || f.looks < maxOldLooks && (len(data) > 0 || f.looks == 1) {
		return data, err
	}
	if old, err := f.file.Stat(); err == nil && old.Size() > f.pos {
		data = append(data, gap(fmt.Sprintf("%d bytes of a rotated log were skipped", old.Size()-f.pos))...)
	}
	_ = f.file.Close() // only read
	f.file, f.pos, f.known, f.next = f.next, 0, nil, nil
	fresh, err := f.read()
	return append(data, fresh...), errors.Join(err, f.look()) // which may have lost its name, too
}

// look opens another file that has the name by now.
func (f *fileFollower) look() error {
	old, err := f.file.Stat()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	named, err := os.Stat(f.path)
	if err != nil || f.next != nil || os.SameFile(old, named) { // an error: between two names
		return nil
	}
	f.looks = 0
	if f.next, _, err = f.open(); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// open opens what has the name now. A link is followed, for the name is the configuration's.
func (f *fileFollower) open() (*os.File, os.FileInfo, error) {
	file, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errIrregular
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read log %s: %w", f.path, err), file.Close())
	}
	return file, info, nil
}

// read reads on in file, from its beginning when it is not what it was.
func (f *fileFollower) read() ([]byte, error) {
	var mark, data []byte
	for {
		var err error
		data, err = io.ReadAll(io.NewSectionReader(f.file, f.pos-int64(len(f.known)), int64(len(f.known))+maxTailBytes))
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		if bytes.HasPrefix(data, f.known) {
			break
		}
		f.pos, f.known = 0, nil
		mark = gap("this log was truncated; what was written last before may be missing")
	}
	seen := data
	data = data[len(f.known):]
	f.pos += int64(len(data))
	f.full = len(data) == maxTailBytes
	f.known = bytes.Clone(seen[max(0, len(seen)-knownBytes):])
	return append(mark, data...), nil
}
