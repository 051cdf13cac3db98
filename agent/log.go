package agent

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
)

// The attribute keys of every log line. Constant messages and these keys make a log greppable.
const (
	KeyErr      = "err"
	KeyNode     = "node"
	KeyCluster  = "cluster"
	KeyTopic    = "topic"
	KeyCommand  = "command"
	KeyVerb     = "verb"
	KeyProbe    = "probe"
	KeyEpoch    = "epoch"
	KeySeq      = "seq"
	KeyState    = "state"
	KeyReason   = "reason"
	KeyURL      = "url"
	KeyAddr     = "addr"
	KeyPath     = "path"
	KeyCount    = "count"
	KeyBytes    = "bytes"
	KeyWait     = "wait"
	KeyTook     = "took"
	KeyBy       = "by"
	KeyOperator = "operator"
	KeyVersion  = "version"
	KeyNotAfter = "not_after"
)

// NewLogger writes to w from level on, as text or json. A *slog.LevelVar lets the level change while the program runs.
func NewLogger(w io.Writer, level slog.Leveler, format string) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log format %q: wanted text or json", format)
}

// ForJournal returns a writer for a logger's lines: w, or, where systemd's journal reads w, one that tells it the priority of each
// (sd-daemon(3)) and leaves the time of text to it.
func ForJournal(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		if err != nil {
			return w
		}
		// A child inherits the variable, and perhaps not the stream (systemd.exec(5)).
		if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino) {
			return prioritised{w}
		}
	}
	return w
}

type prioritised struct{ to io.Writer }

// Write takes one line of either form; the first level in it is its own, as only the time is before it.
func (p prioritised) Write(line []byte) (int, error) {
	_, level, _ := bytes.Cut(line, []byte("level"))
	level = bytes.TrimLeft(level, `=":`)
	priority := "<6>"
	if len(level) > 0 {
		switch level[0] {
		case 'D':
			priority = "<7>"
		case 'W':
			priority = "<4>"
		case 'E':
			priority = "<3>"
		}
	}
	rest := line
	if bytes.HasPrefix(line, []byte("time=")) {
		_, rest, _ = bytes.Cut(line, []byte(" "))
	}
	if _, err := p.to.Write(append([]byte(priority), rest...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
