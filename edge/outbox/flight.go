package outbox

import (
	"slices"
	"time"
)

// lane is one numbered sequence: batches or events of one epoch. Within a lane everything is sent in the order of its
// numbers.
type lane struct {
	stream stream
	epoch  uint64
}

// maxAckBackoff bounds how far the wait for an ack grows while none comes, as a power of two.
const maxAckBackoff = 4

// flight is what of a lane was sent and is not acknowledged.
type flight struct {
	sent     []uint64  // ascending
	deadline time.Time // when to go back; zero while nothing waits for an ack
	misses   int       // go-backs without progress between
}

// high is the last seq sent, 0 when none is under way.
func (f *flight) high() uint64 {
	if f == nil || len(f.sent) == 0 {
		return 0
	}
	return f.sent[len(f.sent)-1]
}

// puback notes that the broker has a message: from now on the cluster agent's ack is waited for.
func (f *flight) puback(now time.Time, wait time.Duration) {
	if f.deadline.IsZero() && len(f.sent) > 0 {
		f.deadline = now.Add(wait << min(f.misses, maxAckBackoff))
	}
}

// ack notes the watermark seq.
func (f *flight) ack(seq uint64, now time.Time, wait time.Duration) {
	before := len(f.sent)
	f.sent = slices.DeleteFunc(f.sent, func(s uint64) bool { return s <= seq })
	if len(f.sent) == before {
		return // no progress
	}
	f.misses = 0
	f.deadline = time.Time{}
	f.puback(now, wait)
}

// late reports whether the ack is overdue, and if so goes back to the lowest unacknowledged one.
func (f *flight) late(now time.Time) bool {
	if f.deadline.IsZero() || now.Before(f.deadline) {
		return false
	}
	f.sent, f.deadline = nil, time.Time{}
	f.misses++
	return true
}

// failed takes back seq and all after it: they will be sent again, in order.
func (f *flight) failed(seq uint64) {
	f.sent = slices.DeleteFunc(f.sent, func(s uint64) bool { return s >= seq })
	if len(f.sent) == 0 {
		f.deadline = time.Time{}
	}
}

// pace is a token bucket of bytes per second. It may go below zero, so that a message larger than the bucket passes.
type pace struct {
	rate   float64 // bytes per second; also the most it holds
	tokens float64
	at     time.Time
}

func (p *pace) fill(now time.Time) {
	if !p.at.IsZero() {
		p.tokens = min(p.rate, p.tokens+p.rate*now.Sub(p.at).Seconds())
	}
	p.at = now
}

// limit changes the rate. What the old one let through beyond the bucket is paid back at the new one.
func (p *pace) limit(rate float64) { p.rate, p.tokens = rate, min(p.tokens, rate) }

// wait is how long until something may be sent; 0 is now.
func (p *pace) wait() time.Duration {
	if p.tokens > 0 {
		return 0
	}
	return time.Duration((1-p.tokens)/p.rate*float64(time.Second)) + time.Millisecond
}

func (p *pace) take(n int64) { p.tokens -= float64(n) }

// offer is what could be sent next.
type offer struct {
	liveEvent, liveTele bool // of the current epoch, put while connected
	backEvent, backTele bool // from before
	paced               bool // the replay must wait for its pace
	backFull            bool // the replay uses its share of the window
	lastLive            bool // what was sent last was live
}

// turn is what to send next.
type turn uint8

const (
	turnNone turn = iota
	turnLiveEvent
	turnLiveTele
	turnBackEvent
	turnBackTele
)

// next decides. Live goes at once, events first; a replay that may go takes every second turn.
func (o offer) next() turn {
	live := o.liveEvent || o.liveTele
	back := (o.backEvent || o.backTele) && !o.paced && !o.backFull
	switch {
	case back && (!live || o.lastLive) && o.backEvent:
		return turnBackEvent
	case back && (!live || o.lastLive):
		return turnBackTele
	case o.liveEvent:
		return turnLiveEvent
	case o.liveTele:
		return turnLiveTele
	}
	return turnNone
}
