package clock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
)

// What is made of a machine's clock that differs from the time that was counted on.
const (
	// follow is what it may be off without a thought: it is slewed, and a boot clock is not exact.
	follow = 5 * time.Second
	// Bound is how far it may be off before something is said and, when it is behind, telemetry is put off.
	Bound = time.Minute
	// ahead and behind are how long it has to stand before it is believed: forwards a clock is mostly put right, and
	// backwards mostly wrong. The kernel's word that it is disciplined is believed at once.
	ahead  = 10 * time.Minute
	behind = time.Hour
	// settle is how long after a boot it may yet be put right, as happens when the network is up.
	settle = 10 * time.Minute
	// keepEvery is how often what is known is written to disk.
	keepEvery = time.Minute
)

// Config is what a Clock reads and whom it tells.
type Config struct {
	DB    *bbolt.DB
	Floor time.Time // surely past: the build. Nothing before it is ever believed
	Log   *slog.Logger

	// OnStray is told when the machine's clock begins and ceases to be off by more than Bound; why is empty when it ceases.
	OnStray func(why string)
	// OnStep is told when the time that Now tells was set, by how much.
	OnStep func(by time.Duration)

	Wall   func() time.Time     // nil: time.Now
	Uptime func() time.Duration // nil: CLOCK_BOOTTIME
	Synced func() bool          // nil: what the kernel says
	Boot   string               // empty: the kernel's boot id
}

func (cfg *Config) complete() error {
	if cfg.DB == nil || cfg.Log == nil {
		return errors.New("clock: wanted a store and a log")
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	if cfg.Uptime == nil {
		cfg.Uptime = agent.SinceBoot
	}
	if cfg.Synced == nil {
		cfg.Synced = agent.KernelSynced
	}
	if cfg.Boot == "" {
		cfg.Boot = agent.BootID()
	}
	if cfg.OnStray == nil {
		cfg.OnStray = func(string) {}
	}
	if cfg.OnStep == nil {
		cfg.OnStep = func(time.Duration) {}
	}
	return nil
}

// Clock counts the time on from what was known, by the boot clock, which nobody sets. Safe for concurrent use.
type Clock struct {
	cfg Config

	mu      sync.Mutex
	known   time.Time     // the time at since
	since   time.Duration // by the boot clock
	exact   bool          // known has been counted on without a gap; otherwise the time is known or later
	stepped time.Duration // by how much the time was set and OnStep was not told
	stray   *stray        // the machine's clock is off; nil: it is followed
	told    bool          // of stray, by OnStray
}

// stray is a machine's clock that differs from what is known.
type stray struct {
	offset time.Duration // of the wall clock over the boot clock
	since  time.Duration
}

// Open reads what was known when the agent ran last.
func Open(cfg Config) (*Clock, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	c := &Clock{cfg: cfg}
	kept, err := load(cfg.DB)
	if err != nil {
		return nil, err
	}
	uptime := cfg.Uptime()
	c.known, c.since = cfg.Floor, uptime
	if last := time.UnixMilli(kept.Wall); last.After(c.known) {
		c.known = last
		if kept.Boot == cfg.Boot && kept.Uptime <= uptime { // counted on while we were away
			c.since, c.exact = kept.Uptime, true
		}
	}
	if wall := cfg.Wall(); !c.exact && !wall.Before(c.at(uptime).Add(-follow)) {
		c.known, c.since, c.exact = wall.Round(0), uptime, true // nobody knows better how long the machine was off
	}
	return c, nil
}

// at is the time that is counted on. mu is held.
func (c *Clock) at(uptime time.Duration) time.Time { return c.known.Add(uptime - c.since) }

// Now returns the time: the machine's where that is plausible, otherwise what is counted on.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.look()
	return now
}

// look compares the clocks, and returns the time and by how much the machine's differs from it. mu is held.
func (c *Clock) look() (now time.Time, off time.Duration) {
	wall, uptime := c.cfg.Wall().Round(0), c.cfg.Uptime()
	now = c.at(uptime)
	off = wall.Sub(now)
	if off <= follow && off >= -follow {
		c.known, c.since, c.stray = wall, uptime, nil
		return wall, 0
	}
	if off > 0 && !c.exact { // known was but a lower bound
		c.known, c.since, c.exact, c.stray = wall, uptime, true, nil
		c.stepped += off
		return wall, 0
	}
	offset := wall.Sub(time.Unix(0, 0)) - uptime
	if c.stray == nil || (offset-c.stray.offset).Abs() > follow {
		c.stray = &stray{offset, uptime}
	}
	return now, off
}

// believe follows a clock that has been off for long enough, and returns by how much the time was set. mu is held.
func (c *Clock) believe() (by time.Duration) {
	_, off := c.look()
	by, c.stepped = c.stepped, 0
	if c.stray == nil {
		return by
	}
	wall, uptime := c.cfg.Wall().Round(0), c.cfg.Uptime()
	stood, wait := uptime-c.stray.since, ahead
	if off < 0 {
		wait = behind
	}
	if wall.Before(c.cfg.Floor) || stood < wait && !c.cfg.Synced() {
		return by
	}
	c.known, c.since, c.exact, c.stray = wall, uptime, true, nil
	return by + off
}

// Doubt is why a sample cannot be judged by this clock, or nil. A clock that is behind what was known before is wrong, and
// then nothing can. While it is ahead and not believed yet, and of a machine that started lately, it may be put right: then
// what seems to come from the future may not.
func (c *Clock) Doubt(future bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, off := c.look()
	switch {
	case off < -Bound:
		return fmt.Errorf("the machine's clock is wrong: it says %s, %s before what is known to be past", now.Add(off).UTC().Format(time.RFC3339), -off.Round(time.Second))
	case future && off > follow:
		return fmt.Errorf("the machine's clock was set ahead by %s, and that is not believed yet", off.Round(time.Second))
	case future && c.cfg.Uptime() < settle && !c.cfg.Synced():
		return fmt.Errorf("the machine's clock may be behind: nothing disciplines it, and the machine was started less than %s ago", settle)
	}
	return nil
}

// Stray says how the machine's clock is off by more than Bound, empty when it is not.
func (c *Clock) Stray() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.strayed()
}

// strayed is Stray. mu is held.
func (c *Clock) strayed() string {
	now, off := c.look()
	if off.Abs() <= Bound {
		return ""
	}
	way, wait := "ahead", ahead
	if off < 0 {
		way, wait = "back", behind
	}
	text := fmt.Sprintf("the machine's clock was set %s by %s; until it is right the time is counted on from %s", way, off.Abs().Round(time.Second),
		now.UTC().Format(time.RFC3339))
	if !now.Add(off).Before(c.cfg.Floor) {
		text += fmt.Sprintf(", and in %s it is believed", max(0, wait-(c.cfg.Uptime()-c.stray.since)).Round(time.Second))
	}
	return text
}

// Run keeps what is known and tells of steps until ctx ends.
func (c *Clock) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	kept := time.Duration(-1)
	for {
		step := c.round()
		if uptime := c.cfg.Uptime(); step != 0 || kept < 0 || uptime-kept >= keepEvery {
			kept = uptime
			if err := c.keep(); err != nil {
				c.cfg.Log.Warn("time not kept", agent.KeyErr, err)
			}
		}
		if step != 0 {
			c.cfg.OnStep(step)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round looks once, and tells what has changed.
func (c *Clock) round() (step time.Duration) {
	c.mu.Lock()
	step = c.believe()
	why := c.strayed()
	news := (why != "") != c.told
	c.told = why != ""
	c.mu.Unlock()
	if news {
		c.cfg.OnStray(why)
	}
	return step
}
