package probe

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// stopWithin is how long Run and Apply wait for slow probes that they have told to stop.
const stopWithin = 3 * time.Second

// Collector reads the probes at their interval. The exported fields are set before Run and not changed after; each may
// be nil. They are called from the goroutine that scrapes and hold up the next scrape.
type Collector struct {
	Sink     func(Scrape)                  // takes every scrape of Run
	OnChange func(probe string, err error) // a probe began to fail, or recovered (nil)
	Self     func() []Sample               // more values of the agent itself, in probe "self"

	clock *agent.Clock
	log   *slog.Logger

	turn    chan struct{} // held by whoever scrapes: Run, Now or Apply
	changed chan struct{}

	mu  sync.Mutex
	set *set
}

// New checks cfg. A nil log is silent.
func New(cfg Config, clock *agent.Clock, log *slog.Logger) (*Collector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Collector{clock: clock, log: log, turn: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	var err error
	c.set, err = newSet(cfg, c.askSelf)
	return c, err
}

func (c *Collector) askSelf() []Sample {
	if c.Self == nil {
		return nil
	}
	return c.Self()
}

// Run scrapes at the interval until ctx ends: first at a random moment within it, so that a fleet does not scrape at
// one moment, then in step with that. A scrape that would be late is left out, not caught up on.
func (c *Collector) Run(ctx context.Context) error {
	defer c.stop()
	interval := c.current().cfg.Interval
	next := time.Now().Add(firstWait(interval))
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		var tick <-chan time.Time
		if interval > 0 {
			timer.Reset(time.Until(next))
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
			if changed := c.current().cfg.Interval; changed != interval {
				interval, next = changed, time.Now().Add(firstWait(changed))
			}
		case <-tick:
			scrape, err := c.scrape(ctx, false)
			if err != nil || ctx.Err() != nil {
				return nil
			}
			if c.Sink != nil {
				c.Sink(scrape)
			}
			next = nextTick(next, time.Now(), interval)
		}
	}
}

// stop ends the slow probes; from then on Now tells what the fast ones say.
func (c *Collector) stop() {
	set := c.current()
	set.cancel() // also lets go a Now that waits for them
	c.turn <- struct{}{}
	defer c.release()
	if err := set.stop(stopWithin); err != nil {
		c.log.Warn("probe left behind", agent.KeyErr, err)
	}
}

// firstWait is at most 10 s, so that a node which scrapes every hour has something to show soon.
func firstWait(interval time.Duration) time.Duration {
	return rand.N(min(max(interval, 1), 10*time.Second))
}

// nextTick is the first moment after now that is whole intervals after last.
func nextTick(last, now time.Time, interval time.Duration) time.Time {
	missed := max(0, now.Sub(last)/interval)
	return last.Add((missed + 1) * interval)
}

// Now scrapes all probes at once, whatever their interval, and waits for slow ones up to 5 s or until ctx ends; then
// what is there is returned. An error means that ctx ended before anything was read.
func (c *Collector) Now(ctx context.Context) (Scrape, error) { return c.scrape(ctx, true) }

func (c *Collector) scrape(ctx context.Context, asked bool) (Scrape, error) {
	if err := c.take(ctx); err != nil {
		return Scrape{}, fmt.Errorf("scrape: %w", err)
	}
	defer c.release()
	s := Scrape{Mono: c.clock.Boot()}
	s.At, s.Quality = c.clock.Read()
	s.Samples = c.current().scrape(ctx, asked, c.report)
	return s, nil
}

func (c *Collector) report(probe string, err error) {
	if err != nil {
		c.log.Warn("probe failing", agent.KeyProbe, probe, agent.KeyErr, err)
	} else {
		c.log.Info("probe recovered", agent.KeyProbe, probe)
	}
	if c.OnChange != nil {
		c.OnChange(probe, err)
	}
}

// Apply puts cfg in force for the next scrape, or returns what is wrong with it and changes nothing. A probe that was
// failing and still exists under its name is not reported anew.
func (c *Collector) Apply(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	fresh, err := newSet(cfg, c.askSelf)
	if err != nil {
		return err
	}
	if err := c.take(context.Background()); err != nil {
		return err
	}
	defer c.release()
	c.mu.Lock()
	old := c.set
	c.set, fresh.voids = fresh, old.voids
	c.mu.Unlock()
	for _, u := range old.units {
		same := func(o *unit) bool { return o.probe.Name() == u.probe.Name() }
		if i := slices.IndexFunc(fresh.units, same); i >= 0 {
			fresh.units[i].settle(u.lastError())
		}
	}
	select {
	case c.changed <- struct{}{}:
	default: // Run has yet to look
	}
	if err := old.stop(stopWithin); err != nil {
		c.log.Warn("probe left behind", agent.KeyErr, err)
	}
	return nil
}

// Voids is how many samples were NaN or infinite, which is no value on the wire. It is for Self, and for who scrapes.
func (c *Collector) Voids() uint64 { return c.current().voids }

// Status describes every probe, with its last error.
func (c *Collector) Status() []api.Probe { return c.current().status() }

// Sensors lists what is attached to this machine and measures.
func (c *Collector) Sensors() []api.Sensor { return Sensors(c.current().cfg.Sys) }

func (c *Collector) current() *set {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.set
}

func (c *Collector) take(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Collector) release() { <-c.turn }
