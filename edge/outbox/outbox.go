// Package outbox keeps what a node measured and what happened on it until the cluster agent says that it is stored for
// good. Nothing in it is lost silently: what a bound of its policy takes is counted, reported, and never uncounted.
//
// It has two tiers. The hot one is a file on a tmpfs: it costs no flash and outlives a killed process, not a power cut.
// The cold one is a bbolt file in flash, written only while the link is down, acknowledgements lag, the hot tier
// overflows, or the agent stops; and then in groups. While neither has room and the link is up, a little is held in memory alone,
// for the link; what a kill takes of it is counted by the next life.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// Sender is the way out: one MQTT link. Send hands v (an *api.Batch of KindTele or an *api.Event of KindEvent) to the
// link behind everything handed over before, and may block until the link takes it or ctx, which lives as long as the
// session and Run, ends. done is called exactly once, from any goroutine, also before Send returns: with nil after the
// broker's PUBACK, with an error that wraps ErrUnsendable when v can never be sent, with any other error to have it
// tried again. v is the Sender's until then.
type Sender interface {
	Send(ctx context.Context, kind mqtt.Kind, v any, done func(error))
}

// ErrUnsendable is wrapped by a Sender's error about a message that no later attempt could deliver. The outbox drops
// and counts it.
var ErrUnsendable = errors.New("message can never be sent")

// ErrClosed is returned by puts after Close.
var ErrClosed = errors.New("outbox is closed")

// Config of an outbox. Zero of a field with a default means the default.
type Config struct {
	Dir        string // in flash: outbox.db
	RuntimeDir string // on a tmpfs: outbox.hot and a lock
	// Volatile keeps everything in this process's memory and touches no directory: HotBytes is the only bound, nothing
	// outlives the Outbox, and there is no flash to spill to. For devices without any writable storage, and for thousands
	// of outboxes in one process.
	Volatile bool

	// Epoch numbers what is put before the first session: one that was handed out for this start alone, above every
	// earlier and below every later session's epoch. Required.
	Epoch uint64
	Boot  string // the kernel's boot id. Required.

	MaxBytes             int64         // of records in flash; 16 MiB. The file is up to half as large again
	MaxAge               time.Duration // of a record; 7 days
	HotBytes             int64         // of records in the runtime directory; 256 KiB
	SpillAfter           time.Duration // link down, or a record unacknowledged, for so long: to flash; 60 s
	FlushEvery           time.Duration // flash is written at most so often, but for a full hot tier; 30 s
	AckTimeout           time.Duration // from the PUBACK to the cluster agent's ack, jittered by a fifth; 30 s
	ReplayBytesPerSecond int64         // of backlog; 64 KiB
	Window               int           // messages without a PUBACK; 8

	Clock *agent.Clock
	// Timed reports whether a session has been told the time by the cluster agent. As long as it was not, for up to a
	// minute, and the clock is not disciplined, nothing is sent: what was sent is not stamped anew. Nil: nothing waits.
	Timed  func(session uint64) bool
	Sender Sender
	Log    *slog.Logger
}

func (cfg *Config) check() error {
	fill := func(v *int64, def int64) {
		if *v == 0 {
			*v = def
		}
	}
	fillTime := func(v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
	}
	fill(&cfg.MaxBytes, 16<<20)
	fill(&cfg.HotBytes, 256<<10)
	fill(&cfg.ReplayBytesPerSecond, 64<<10)
	fillTime(&cfg.MaxAge, 7*24*time.Hour)
	fillTime(&cfg.SpillAfter, time.Minute)
	fillTime(&cfg.FlushEvery, 30*time.Second)
	fillTime(&cfg.AckTimeout, 30*time.Second)
	if cfg.Window == 0 {
		cfg.Window = 8
	}
	var errs []error
	for _, f := range []struct {
		name string
		ok   bool
		want string
	}{
		{"Dir", cfg.Volatile || cfg.Dir != "", "a directory"},
		{"RuntimeDir", cfg.Volatile || cfg.RuntimeDir != "", "a directory on a tmpfs"},
		{"Epoch", cfg.Epoch > 0, "an epoch of its own"}, {"Boot", cfg.Boot != "", "the kernel's boot id"},
		{"MaxBytes", cfg.MaxBytes > 0, "above zero"}, {"HotBytes", cfg.HotBytes > 0, "above zero"},
		{"ReplayBytesPerSecond", cfg.ReplayBytesPerSecond > 0, "above zero"},
		{"MaxAge", cfg.MaxAge > 0, "above zero"}, {"SpillAfter", cfg.SpillAfter > 0, "above zero"},
		{"FlushEvery", cfg.FlushEvery > 0, "above zero"}, {"AckTimeout", cfg.AckTimeout > 0, "above zero"},
		{"Window", cfg.Window > 0, "above zero"}, {"Clock", cfg.Clock != nil, "a clock"},
		{"Sender", cfg.Sender != nil, "a sender"}, {"Log", cfg.Log != nil, "a logger"},
	} {
		if !f.ok {
			errs = append(errs, fmt.Errorf("outbox %s: wanted %s", f.name, f.want))
		}
	}
	return errors.Join(errs...)
}

// Outbox is an open outbox. All methods are safe for concurrent use. A put takes well under a millisecond, except while
// a group of records is on its way to flash: then it waits for that.
type Outbox struct {
	cfg  Config
	boot uint64
	lock *os.File      // nil when volatile
	kick chan struct{} // holds one: there may be something to do

	mu      sync.Mutex
	closed  bool
	hot     *hot
	cold    *cold
	st      state
	unsaved bool   // st has changed since it was last written anywhere
	notes   []note // events about the outbox itself, to be put

	epoch    uint64
	next     [streams]uint64 // seq of the next put
	liveFrom [streams]uint64 // seqs of the current epoch from here on were put while connected

	session  uint64 // grows with every Connected and Disconnected: results of older ones are stale
	up       bool
	ctx      context.Context // of the session's sends; nil before the first
	cancel   context.CancelFunc
	downAt   time.Time
	flights  map[lane]*flight
	doubt    doubts // outlives sessions
	marked   bool   // outbox.db has the marks of doubt
	window   int    // sent without a PUBACK
	backlog  int    // of these, replayed
	lastLive bool
	pace     pace
	opened   uint64            // the first epoch of this life
	tried    map[lane]uint64   // the highest seq that was sent in this life
	shifts   map[stamped]int64 // what was added to the stamps of records on their first way out, in milliseconds
	upAt     time.Time         // the session began
	retryAt  time.Time         // after a failed send
	holdTill time.Time         // telemetry waits until then: the cluster agent cannot store any

	inFlash    api.Dropped // the counters as outbox.db has them
	flushAt    time.Time   // flash was last written, or refused a write
	refused    bool        // the last write to flash failed
	starved    bool        // no tier had room for what was put last
	maintainAt time.Time   // when to look after the tiers, even if there is always something to send
	expireAt   time.Time   // when to look for records past their age
	reportAt   time.Time   // before this, no further outbox.dropped
}

// Stats tells what the outbox cost and suffered. Counters but Hot, HotFile and Cold are since enrolment, as far as
// RuntimeDir or Dir kept them.
type Stats struct {
	FlashBytes  int64  // committed to flash: changed pages of outbox.db
	Hot         int64  // bytes of records in the hot tier
	HotFile     int64  // bytes of its file
	Cold        int64  // bytes of unacknowledged records in flash
	Opens       uint64 // starts
	Corruptions uint64 // damaged outbox.db files set aside
	Torn        uint64 // damaged stretches of the hot file
	Unreadable  uint64 // bytes in which it could not be told what was lost
	Refused     uint64 // writes that flash refused: full, read-only, failing
}

// Stats returns the current figures.
func (o *Outbox) Stats() Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Stats{FlashBytes: int64(o.st.FlashBytes), Hot: o.hot.live, HotFile: o.hot.size, Cold: o.cold.tally.Bytes,
		Opens: o.st.Opens, Corruptions: o.st.Corruptions, Torn: o.st.Torn, Unreadable: o.st.Unreadable, Refused: o.st.Full}
}

// Backlog tells what is held unacknowledged, and what was given up since enrolment.
func (o *Outbox) Backlog() api.Backlog {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum := o.cold.tally
	out := api.Backlog{Dropped: o.st.Dropped}
	oldest := func(m *meta) {
		if at := api.Millis(m.at); out.Oldest == 0 || at < out.Oldest {
			out.Oldest = at
		}
	}
	for s := range streams {
		for i := range o.hot.index[s] {
			sum.add(&o.hot.index[s][i].meta)
		}
		for _, sh := range [...]shelf{o.cold, o.hot} {
			o.tend(sh.scan(s, key{}, func(m meta) bool {
				oldest(&m)
				return false
			}))
		}
	}
	out.Batches, out.Events, out.Bytes = sum.stream(tele), sum.stream(events), sum.Bytes
	return out
}

// lockDir makes sure that no other process uses the same outbox. The lock ends with the process.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "outbox.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: another skerry-edge uses it; stop that one first: %w", path, err), f.Close())
	}
	return f, nil
}

// wake has Run look what there is to do.
func (o *Outbox) wake() {
	select {
	case o.kick <- struct{}{}:
	default: // it is going to look anyway
	}
}
