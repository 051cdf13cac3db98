package fault

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Trouble is what becomes of the packets of a host, in one direction. The zero value lets all of them through.
type Trouble struct {
	Drop           bool          // all are lost, without a word
	DropBegun      time.Time     // those of connections begun before are lost, without a word; new ones work
	Delay, Jitter  time.Duration // of each; Jitter is added at random, so packets overtake each other
	Loss           float64       // share that is lost
	Duplicate      float64       // share that arrives twice
	Reorder        float64       // share that is overtaken
	BytesPerSecond int64         // 0: as fast as it goes
}

// overtaken is how long a packet waits that others overtake.
const overtaken = 20 * time.Millisecond

// backlog bounds what waits for a slow wire: what would wait for longer is lost, as in a router.
const backlog = time.Second

// fate is when a packet of size bytes arrives; lost when it does not. free is when the wire is next free, and is moved.
func (t *Trouble) fate(now time.Time, size int, begun time.Time, free *time.Time) (at time.Time, lost bool) {
	if t.Drop || begun.Before(t.DropBegun) || t.Loss > 0 && rand.Float64() < t.Loss {
		return now, true
	}
	at = now
	if t.BytesPerSecond > 0 {
		at = later(now, *free).Add(time.Duration(float64(size) / float64(t.BytesPerSecond) * float64(time.Second)))
		if at.Sub(now) > backlog {
			return now, true
		}
		*free = at
	}
	at = at.Add(t.Delay)
	if t.Jitter > 0 {
		at = at.Add(rand.N(t.Jitter))
	}
	if t.Reorder > 0 && rand.Float64() < t.Reorder {
		at = at.Add(overtaken)
	}
	return at, false
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// flow names a connection, the same for both directions.
type flow struct{ a, b netip.AddrPort }

// header is what the switch reads of a packet.
type header struct {
	src, dst netip.Addr
	flow     flow
	begins   bool // a SYN without an ACK, RFC 9293
}

// parse reads an IPv4 packet, RFC 791; ok is false for others.
func parse(p []byte) (h header, ok bool) {
	if len(p) < 20 || p[0]>>4 != 4 {
		return h, false
	}
	size := int(p[0]&15) * 4
	h.src, h.dst = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	const tcp = 6
	if p[9] != tcp || len(p) < size+14 {
		return h, true
	}
	a := netip.AddrPortFrom(h.src, binary.BigEndian.Uint16(p[size:]))
	b := netip.AddrPortFrom(h.dst, binary.BigEndian.Uint16(p[size+2:]))
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	h.flow = flow{a, b}
	const syn, ack = 2, 16
	h.begins = p[size+13]&(syn|ack) == syn
	return h, true
}
