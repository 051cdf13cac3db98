package outbox

import "time"

// pressure is all that the decision to write flash depends on.
type pressure struct {
	hotBytes   int64         // live bytes in the hot tier
	hotBound   int64         // what it may hold
	oldest     time.Duration // age of the oldest unacknowledged record in the hot tier; 0 when it is empty
	down       time.Duration // how long the link has been down; 0 while it is up
	sinceFlush time.Duration // since flash was last written, or refused a write
	spillAfter time.Duration
	flushEvery time.Duration
}

// spill reports whether the hot tier should move to flash now. Nearness to the bound does not wait for the link to be
// down long; what merely grew old waits its turn so that many records share one write.
func (p pressure) spill() bool {
	if p.hotBytes == 0 {
		return false
	}
	if p.hotBytes > p.hotBound*3/4 {
		return true
	}
	return p.sinceFlush >= p.flushEvery && (p.down >= p.spillAfter || p.oldest >= p.spillAfter)
}

// instant is the present: the wall clock with how far it can be believed, and the boot clock of a boot.
type instant struct {
	wall    int64 // ms since 1970
	quality quality
	mono    int64 // ms since boot
	boot    uint64
}

// age is how old a record is, and whether that can be known. Within one boot the boot clock tells, whatever happened to
// the wall clock; across boots two wall clocks must both be believable, or bytes alone bound the record.
func (n instant) age(m *meta) (time.Duration, bool) {
	ms := int64(0)
	switch {
	case m.boot == n.boot:
		ms = n.mono - m.mono
	case m.quality > qualityFloor && n.quality > qualityFloor:
		ms = n.wall - m.at
	default:
		return 0, false
	}
	return time.Duration(max(0, ms)) * time.Millisecond, true
}

// dropOrder is what goes first when thinning is not enough.
func dropOrder() [classes]class { return [...]class{classTelemetry, classEvent, classAlarm} }

// relief is how far a tier is emptied once it is over its bound: a tenth more than needed, so that the next record does
// not start it all over.
func relief(held, bound int64) int64 {
	if held <= bound {
		return 0
	}
	return held - bound*9/10
}
