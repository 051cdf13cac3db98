package agent

import (
	"fmt"
	"io"
	"log/slog"
	"os"
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

// NewLogger writes to w from level on, as text or json. Under systemd (JOURNAL_STREAM set) the text form leaves the time
// to the journal. A *slog.LevelVar lets the level change while the program runs.
func NewLogger(w io.Writer, level slog.Leveler, format string) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	case "text":
		if os.Getenv("JOURNAL_STREAM") != "" {
			opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
				if len(groups) == 0 && a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}
		}
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log format %q: wanted text or json", format)
}
