package agent

import (
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Clock is the time as far as a device without a battery-backed clock can know it. It never tells a time before its
// floor (the build, or the last time that was surely true), and follows the cluster agent's hint while the kernel says
// that nothing else disciplines its clock. Safe for concurrent use.
type Clock struct {
	system func() time.Time
	boot   func() time.Duration
	synced func() bool

	mu     sync.Mutex
	floor  time.Time     // never before this
	offset time.Duration // what to add to the boot clock for the hinted time
	hinted bool
}

// ClockSource is where a Clock reads; the zero value of a field means the real thing. Tests set them.
type ClockSource struct {
	System func() time.Time     // wall clock
	Boot   func() time.Duration // time since boot, counting suspend (CLOCK_BOOTTIME)
	Synced func() bool          // whether the kernel says its clock is disciplined (adjtimex)
}

// hintTolerance is how far the system clock may be off the hint before the hint is preferred: well above a round trip
// over a slow link, well below what breaks a certificate.
const hintTolerance = 5 * time.Second

// NewClock returns a clock that never tells a time before floor.
func NewClock(floor time.Time, src ClockSource) *Clock {
	if src.System == nil {
		src.System = time.Now
	}
	if src.Boot == nil {
		src.Boot = SinceBoot
	}
	if src.Synced == nil {
		src.Synced = kernelSynced
	}
	return &Clock{system: src.System, boot: src.Boot, synced: src.Synced, floor: floor}
}

// Now returns the best known time.
func (c *Clock) Now() time.Time {
	t, _ := c.Read()
	return t
}

// Read returns the best known time and how far it can be believed.
func (c *Clock) Read() (time.Time, api.TimeQuality) {
	sys, boot := c.system(), c.boot()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hinted {
		hint := time.Unix(0, 0).Add(c.offset + boot)
		if off := sys.Sub(hint); off > hintTolerance || off < -hintTolerance {
			if !c.synced() || sys.Before(c.floor) {
				return later(hint, c.floor), api.TimeHinted
			}
		}
	}
	if sys.Before(c.floor) {
		if c.hinted {
			return later(time.Unix(0, 0).Add(c.offset+boot), c.floor), api.TimeHinted
		}
		return c.floor, api.TimeFloor
	}
	if c.synced() {
		return sys, api.TimeSynced
	}
	if c.hinted {
		return sys, api.TimeHinted
	}
	return sys, api.TimeFloor
}

// Hint takes a time that the cluster agent signed, or sent over an authenticated connection. It also raises the floor.
func (c *Clock) Hint(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Before(c.floor) { // older than what is already certain: a delayed message, not news
		return
	}
	c.offset = t.Sub(time.Unix(0, 0)) - c.boot()
	c.hinted = true
	c.floor = later(c.floor, t.Add(-hintTolerance)) // below the tolerance, or a clock that is a little slow would stand still
}

// Raise lifts the floor to t if it is later: for times that are surely in the past, such as a certificate's start.
func (c *Clock) Raise(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor = later(c.floor, t)
}

// Plausible reports whether the system clock is not before the floor.
func (c *Clock) Plausible() bool {
	sys := c.system()
	c.mu.Lock()
	defer c.mu.Unlock()
	return !sys.Before(c.floor)
}

// Boot returns the time since boot, counting suspend.
func (c *Clock) Boot() time.Duration { return c.boot() }

// AtBoot converts a time since boot, of this boot, to the best known wall time.
func (c *Clock) AtBoot(since time.Duration) time.Time { return c.Now().Add(since - c.boot()) }

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
