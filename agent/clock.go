package agent

import (
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Clock is the time as far as a device without a battery-backed clock can know it. It never tells a time before the
// build, nor, before anybody has told it better, before the last time that was surely past. While the kernel says that
// nothing else disciplines its clock it follows what the cluster agent said in the present session, forwards and
// backwards. Safe for concurrent use.
type Clock struct {
	system func() time.Time
	boot   func() time.Duration
	synced func() bool

	mu      sync.Mutex
	build   time.Time     // never before this
	past    time.Time     // told as past by some clock that may have been wrong: a word overrules it
	offset  time.Duration // what to add to the boot clock for the cluster agent's time
	hinted  bool          // offset is known
	session uint64        // that offset was told in; 0: in none
	slack   time.Duration // by how much the cluster agent's time may be after what offset says: what it said was on its way
	asking  uint64        // the session that was last announced
	asked   time.Duration // when, since boot
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

// NewClock returns a clock that never tells a time before build.
func NewClock(build time.Time, src ClockSource) *Clock {
	if src.System == nil {
		src.System = time.Now
	}
	if src.Boot == nil {
		src.Boot = SinceBoot
	}
	if src.Synced == nil {
		src.Synced = KernelSynced
	}
	return &Clock{system: src.System, boot: src.Boot, synced: src.Synced, build: build}
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
	floor := later(c.build, c.past)
	if c.hinted {
		hint := c.told(boot)
		if off := sys.Sub(hint); off > hintTolerance+c.slack || off < -hintTolerance {
			if !c.synced() || sys.Before(floor) {
				return later(hint, c.build), api.TimeHinted
			}
		}
	}
	if sys.Before(floor) {
		if c.hinted {
			return later(c.told(boot), c.build), api.TimeHinted
		}
		return floor, api.TimeFloor
	}
	if c.synced() {
		return sys, api.TimeSynced
	}
	if c.hinted {
		return sys, api.TimeHinted
	}
	return sys, api.TimeFloor
}

// told is the cluster agent's time by its last word. mu is held.
func (c *Clock) told(boot time.Duration) time.Time { return time.Unix(0, 0).Add(c.offset + boot) }

// Hint takes a time that came over an authenticated connection outside of any session, such as the answer to an
// enrolment. It counts until a session has a word of its own.
func (c *Clock) Hint(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == 0 {
		c.take(t, 0)
	}
}

// Ask notes that the session is about to be announced: no word for it was signed before.
func (c *Clock) Ask(session uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking, c.asked = session, c.boot()
}

// Word takes the time that the cluster agent signed for a session. The first word of a session is believed as it is, be
// it behind everything that was told before: the cluster agent's clock may have been wrong, and one that is followed
// forwards only would keep its worst moment for ever. But it may have been on its way for as long as has passed since
// Ask: what was told before stays when that explains the difference. Within a session the time moves forwards only: an older word is
// one that was long on its way, or a copy. A word for an older session is no news.
func (c *Clock) Word(session uint64, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	boot := c.boot()
	behind := c.told(boot).Sub(t) // what was told before is after t by so much
	if session < c.session || session == c.session && behind > 0 {
		return
	}
	slack := max(0, c.slack+behind) // of a later word of the session nobody knows how long it took
	if session > c.session {
		slack = 0
		if session == c.asking {
			slack = boot - c.asked
		}
		if c.hinted && behind >= 0 && behind <= slack {
			t, slack = t.Add(behind), min(c.slack, slack-behind)
		}
	}
	c.session = session
	c.take(t, slack)
}

// Told reports whether a session has had a word of its own.
func (c *Clock) Told(session uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session >= session
}

// take follows t, which is up to slack too early. What was told as past and is after it was told by a clock that is overruled now. mu is held.
func (c *Clock) take(t time.Time, slack time.Duration) {
	c.offset = t.Sub(time.Unix(0, 0)) - c.boot()
	c.hinted, c.slack = true, slack
	if t.Before(c.past) {
		c.past = t.Add(-hintTolerance)
	}
}

// Cluster returns the time by the cluster agent's clock, in which it states deadlines: what it said last, and the time
// since then by the boot clock. Without a word it is Now. Unlike Now it moves forwards only within a session.
func (c *Clock) Cluster() time.Time {
	c.mu.Lock()
	if c.hinted {
		defer c.mu.Unlock()
		return c.told(c.boot())
	}
	c.mu.Unlock()
	return c.Now()
}

// Raise has the clock tell no time before t until a word says otherwise: for times that somebody who should know called
// past, such as a certificate's start.
func (c *Clock) Raise(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.past = later(c.past, t)
}

// System returns the machine's own clock, and whether it is not before the build.
func (c *Clock) System() (t time.Time, plausible bool) {
	t = c.system()
	return t, !t.Before(c.build)
}

// Plausible reports whether the system clock is not before what was told as past.
func (c *Clock) Plausible() bool {
	sys := c.system()
	c.mu.Lock()
	defer c.mu.Unlock()
	return !sys.Before(later(c.build, c.past))
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
