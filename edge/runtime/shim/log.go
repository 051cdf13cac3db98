package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The bounds of a log: of a line, a longer one is cut into parts, and of the file when nobody says.
const (
	maxLine         = 16 << 10
	defaultLogBytes = 10 << 20
)

// logFile is what a container prints, in the format of CRI logs. Its folder stays open, as the supervisor moves to another root.
type logFile struct {
	mu    sync.Mutex
	dir   *os.Root
	name  string
	file  *os.File
	size  int64
	limit int64
	lost  uint64 // bytes of output that could not be written
	owed  uint64 // those that the log does not tell of yet
	now   func() time.Time
	out   []byte
	lines map[string][]byte // begun ones, by stream
}

func openLog(path string, limit int64) (*logFile, error) {
	if limit <= 0 {
		limit = defaultLogBytes
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &logFile{dir: dir, name: filepath.Base(path), limit: limit, now: time.Now, lines: map[string][]byte{}}
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open log: %w", err), dir.Close())
	}
	return l, nil
}

func (l *logFile) open() error {
	f, err := l.dir.OpenFile(l.name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// write takes what a stream brought. Only whole lines reach the file, until the stream ends.
func (l *logFile) write(stream string, chunk []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.lines[stream]
	for len(chunk) > 0 {
		n := min(maxLine-len(line), len(chunk))
		if i := bytes.IndexByte(chunk[:n], '\n'); i >= 0 {
			l.entry(stream, 'F', append(line, chunk[:i]...))
			line, chunk = line[:0], chunk[i+1:]
			continue
		}
		line, chunk = append(line, chunk[:n]...), chunk[n:]
		if len(line) == maxLine {
			l.entry(stream, 'P', line)
			line = line[:0]
		}
	}
	l.lines[stream] = line
	l.flush()
}

// end writes what is left of a stream, which has no end of line.
func (l *logFile) end(stream string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line := l.lines[stream]; len(line) > 0 {
		l.entry(stream, 'P', line)
	}
	delete(l.lines, stream)
	l.flush()
}

// entry adds one line to what is to be written.
func (l *logFile) entry(stream string, tag byte, text []byte) {
	const overhead = 64
	if len(l.out) > 0 && l.size+int64(len(l.out)+len(text)+overhead) > l.limit {
		l.flush()
	}
	l.out = l.now().UTC().AppendFormat(l.out, "2006-01-02T15:04:05.000000000Z07:00")
	l.out = append(append(l.out, ' '), stream...)
	l.out = append(l.out, ' ', tag, ' ')
	l.out = append(append(l.out, text...), '\n')
	if len(l.out) > maxLine {
		l.flush()
	}
}

// flush writes, into a new file where the old one would grow too large. What cannot be written is counted, and told of once
// something can.
func (l *logFile) flush() {
	if len(l.out) == 0 {
		return
	}
	if l.owed > 0 {
		l.out = fmt.Appendf(l.out, "%s stderr F skerry: %d bytes of log could not be written\n",
			l.now().UTC().Format(time.RFC3339Nano), l.owed)
	}
	err := l.rotate(int64(len(l.out)))
	var n int
	if err == nil {
		n, err = l.file.Write(l.out)
		l.size += int64(n)
	}
	if err == nil {
		l.owed = 0
	} else {
		l.lost += uint64(len(l.out) - n)
		l.owed += uint64(len(l.out) - n)
		if n > 0 { // half a line: end it, or take it back, so that the next is whole
			if terr := l.file.Truncate(l.size - int64(n)); terr == nil {
				l.size -= int64(n)
				l.lost += uint64(n)
				l.owed += uint64(n)
			}
		}
	}
	l.out = l.out[:0]
	if cap(l.out) > 4*maxLine {
		l.out = nil
	}
}

func (l *logFile) rotate(more int64) error {
	if l.file != nil && (l.size == 0 || l.size+more <= l.limit) {
		return nil
	}
	if l.file != nil {
		if err := l.dir.Rename(l.name, l.name+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := l.file.Close(); err != nil {
			return err
		}
		l.file = nil
	}
	return l.open()
}

// sync brings the log to disk and tells how much of it was lost.
func (l *logFile) sync() (lost uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil && l.file.Sync() != nil {
		return max(l.lost, 1)
	}
	return l.lost
}

// copyLog copies a stream to the log and to who is attached, until it ends.
func copyLog(r io.Reader, stream string, l *logFile, also func(stream string, chunk []byte)) {
	buf := make([]byte, maxLine)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			l.write(stream, buf[:n])
			also(stream, buf[:n])
		}
		if err != nil { // the end, which a terminal tells as EIO
			l.end(stream)
			return
		}
	}
}
