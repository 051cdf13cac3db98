package broker

import (
	"context"
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/skerry-edge/skerry/agent"
)

// lines is the log of refusals. Clients can cause as many as they like, so beyond 5 a second, with a burst of 50, lines
// are counted instead; the next one that is written says how many.
type lines struct {
	log     *slog.Logger
	bucket  *rate.Limiter
	skipped atomic.Int64
}

func newLines(log *slog.Logger) *lines { return &lines{log: log, bucket: rate.NewLimiter(5, 50)} }

func (l *lines) warn(msg string, args ...any) {
	if !l.bucket.Allow() {
		l.skipped.Add(1)
		return
	}
	if n := l.skipped.Swap(0); n > 0 {
		args = append(args, agent.KeyCount, n)
	}
	l.log.Warn(msg, args...)
}

// quiet is mochi's log in our manners. What it tells below Error is routine or told by our own lines, so it is Debug;
// and packets and wills hold payloads, so of the attributes only those that cannot are kept.
type quiet struct{ slog.Handler }

// Enabled takes mochi's Info and Warn for Debug.
func (q *quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, demote(level))
}

// Handle renames what is kept.
func (q *quiet) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, demote(r.Level), "mochi: "+r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "error":
			a.Key = agent.KeyErr
		case "client":
			a.Key = agent.KeyNode
		case "remote", "address":
			a.Key = agent.KeyAddr
		default:
			return true
		}
		out.AddAttrs(a)
		return true
	})
	return q.Handler.Handle(ctx, out)
}

// WithAttrs drops mochi's: the names of its one hook and one listener.
func (q *quiet) WithAttrs([]slog.Attr) slog.Handler { return q }

// WithGroup keeps the wrapping.
func (q *quiet) WithGroup(name string) slog.Handler { return &quiet{q.Handler.WithGroup(name)} }

func demote(level slog.Level) slog.Level {
	if level < slog.LevelError {
		return slog.LevelDebug
	}
	return level
}
