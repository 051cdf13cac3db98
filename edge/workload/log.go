package workload

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// LogQuery says which part of a log is wanted.
type LogQuery struct {
	Workload   string
	Container  string // empty: the only one
	Previous   bool   // of the run before the latest
	Tail       int    // lines at most, counted from the end; below 0: all
	Since      time.Time
	Follow     bool  // go on until the run ends
	Timestamps bool  // before each line
	Limit      int64 // bytes at most; 0: all
}

// lookForMore is how often a log that is followed is looked at.
const lookForMore = 250 * time.Millisecond

// Log gives what a container has written, line by line, to out: on the channel of its stdout or stderr.
func (e *Engine) Log(ctx context.Context, q LogQuery, out func(channel uint8, line []byte) error) error {
	_, name, l, err := e.find(q.Workload, q.Container)
	if err != nil {
		return err
	}
	run := l.run
	switch {
	case q.Previous && run < 2:
		return fmt.Errorf("container %s of %s has not run before its latest run", name, q.Workload)
	case q.Previous:
		run--
	case l.waiting != "" && run < 2:
		return fmt.Errorf("container %s of %s is waiting to start: %s", name, q.Workload, l.waiting)
	case l.waiting != "":
		run-- // the latest that has something to show
	}
	alive := func() bool {
		_, _, now, err := e.find(q.Workload, name)
		return l.running && run == l.run && err == nil && now.run == run && now.running
	}
	r := &logReader{path: e.maker.places.logFile(q.Workload, name, run), query: q, out: out, left: q.Limit}
	return r.read(ctx, alive)
}

// logLine is a line of a log in the format of CRI: time, stream, tag, text.
type logLine struct {
	stamp   []byte
	stderr  bool
	partial bool // its text goes on in the next line of its stream
	text    []byte
}

// parseLine takes a line apart, without its newline; ok is false for one of another format.
func parseLine(raw []byte) (l logLine, ok bool) {
	stamp, rest, a := bytes.Cut(raw, []byte{' '})
	stream, rest, b := bytes.Cut(rest, []byte{' '})
	tag, text, c := bytes.Cut(rest, []byte{' '})
	if !a || !b || !c {
		return l, false
	}
	tag, _, _ = bytes.Cut(tag, []byte{':'}) // more tags may follow
	l = logLine{stamp: stamp, stderr: string(stream) == "stderr", partial: string(tag) == "P", text: text}
	return l, (l.stderr || string(stream) == "stdout") && (l.partial || string(tag) == "F")
}

// errEnough ends a reading that has given as much as was asked for.
var errEnough = errors.New("enough")

// logReader reads a log and its rotated part.
type logReader struct {
	path  string
	query LogQuery
	out   func(channel uint8, line []byte) error
	left  int64   // of the limit
	lines int     // that have been read, from the first of the tail on
	open  [2]bool // a line of stdout, stderr goes on
}

// read gives what there is, and, when the log is followed, what is added while alive says that there may be more.
func (r *logReader) read(ctx context.Context, alive func() bool) error {
	err := r.follow(ctx, alive)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (r *logReader) follow(ctx context.Context, alive func() bool) error {
	old, current, err := r.files()
	if err != nil {
		return err
	}
	defer func() { closeAll(old, current) }()
	if err := r.start(old, current); err != nil {
		return err
	}
	rest := &lineReader{}
	for _, f := range []*os.File{old, current} {
		if err := r.drain(f, rest); err != nil {
			return err
		}
	}
	for r.query.Follow && ctx.Err() == nil {
		more := alive() // before the look: what is written until the end is seen
		if err := r.drain(current, rest); err != nil {
			return err
		}
		next, err := r.rotated(current)
		if err != nil {
			return err
		}
		if next != nil {
			if err := r.drain(current, rest); err != nil { // written between the look and the rotation
				return err
			}
			if err := r.skipped(current, rest); err != nil {
				closeAll(next)
				return err
			}
			closeAll(current)
			current, rest = next, &lineReader{}
			continue
		}
		if !more {
			return nil
		}
		agent.Wait(ctx, lookForMore)
	}
	return ctx.Err()
}

// files opens the rotated part, if there is one, and the log itself, such that together they have no gap.
func (r *logReader) files() (old, current *os.File, err error) {
	for range 3 { // a rotation between the two is rare
		closeAll(old, current)
		if current, err = openLog(r.path); err != nil {
			return nil, nil, err
		}
		if old, err = openLog(r.path + ".1"); err != nil {
			closeAll(current)
			return nil, nil, err
		}
		if next, err := r.rotated(current); err == nil && next == nil {
			return old, current, nil
		} else if next != nil {
			closeAll(next)
		}
	}
	return old, current, nil
}

// openLog opens a log; nil when it is not there.
func openLog(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // read only
		}
	}
}

// rotated opens the log anew when another file has its name by now.
func (r *logReader) rotated(current *os.File) (*os.File, error) {
	next, err := openLog(r.path)
	if err != nil || next == nil || current == nil {
		return next, err
	}
	if sameFile(next, current) {
		closeAll(next)
		return nil, nil
	}
	return next, nil
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// skipped gives a rotated part that came and went since current was the log.
func (r *logReader) skipped(current *os.File, rest *lineReader) error {
	old, err := openLog(r.path + ".1")
	if err != nil || old == nil || current == nil {
		return err
	}
	defer closeAll(old)
	if sameFile(old, current) {
		return nil
	}
	*rest = lineReader{}
	return r.drain(old, rest)
}

// lineReader keeps the beginning of a line that is not whole yet.
type lineReader struct{ begun []byte }

// drain gives every whole line from where f stands to its end.
func (r *logReader) drain(f *os.File, rest *lineReader) error {
	if f == nil {
		return nil
	}
	in := bufio.NewReaderSize(f, 16<<10)
	for {
		part, err := in.ReadSlice('\n')
		rest.begun = append(rest.begun, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(rest.begun) < maxLogLine:
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("read log: %w", err)
		}
		line := bytes.TrimSuffix(rest.begun, []byte{'\n'})
		if l, ok := parseLine(line); ok {
			if err := r.give(l); err != nil {
				return err
			}
		}
		rest.begun = rest.begun[:0]
	}
}

// maxLogLine bounds one line of a log: runtimes cut lines at 16 KiB.
const maxLogLine = 64 << 10

// give passes one line on. Of a log that is not followed, no more lines than were asked for are given, whatever is written meanwhile.
func (r *logReader) give(l logLine) error {
	if bounded := r.query.Tail >= 0 && !r.query.Follow; bounded {
		if r.lines == r.query.Tail {
			return errEnough
		}
		if !l.partial {
			r.lines++
		}
	}
	if !r.query.Since.IsZero() {
		if at, err := time.Parse(time.RFC3339Nano, string(l.stamp)); err == nil && at.Before(r.query.Since) {
			return nil
		}
	}
	channel, i := api.ChannelStdout, 0
	if l.stderr {
		channel, i = api.ChannelStderr, 1
	}
	var line []byte
	if r.query.Timestamps && !r.open[i] {
		line = append(append(line, l.stamp...), ' ')
	}
	line = append(line, l.text...)
	if r.open[i] = l.partial; !l.partial {
		line = append(line, '\n')
	}
	if r.query.Limit > 0 {
		line = line[:min(int64(len(line)), r.left)]
		r.left -= int64(len(line))
	}
	if len(line) > 0 {
		if err := r.out(channel, line); err != nil {
			return err
		}
	}
	if r.query.Limit > 0 && r.left == 0 {
		return errEnough
	}
	return nil
}
