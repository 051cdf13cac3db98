// Package owner decides which of several cluster agents, the replicas, acts for which node. It does no I/O: presence
// messages and the time go in, a view comes out.
//
// Every replica that is live has a share of the nodes, by rendezvous hashing: when one comes or goes, only its own nodes
// move. Two rules keep two replicas from acting for one node at a time, and a third one makes up for the rest:
//
//   - A replica that has just connected listens for Settle before it acts, while the others hear of it and let go.
//   - A replica acts only within Lease of a beat that the broker acknowledged, counted from when the beat was sent. The
//     others take its share when they have heard no beat for Timeout, which is twice as long, or as soon as the broker
//     publishes its last will: after that the broker takes nothing more from its connection.
//   - A link may be dead for as long as Lease before its replica knows, clocks stop, and brokers that are
//     clusters themselves have no one order of things. So every order carries a claim (api.Claim), and a node never goes back
//     to a smaller one.
package owner

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Board is what one replica knows of all. Not for concurrent use.
type Board struct {
	self    string
	timeout time.Duration

	connected bool
	settled   time.Time // when this replica may begin to act
	session   uint64    // its own, in this connection
	leased    time.Time // when the last acknowledged beat was sent
	others    map[string]*member
}

// member is another replica.
type member struct {
	last  api.Replica
	heard time.Time // when last came, as something new
}

// View is who is live, and whether this replica may act on it.
type View struct {
	Acting  bool
	Members []string // live, this one among them when it acts, by name
}

// NewBoard makes the board of the replica self. timeout is how long another's beats may stay away.
func NewBoard(self string, timeout time.Duration) *Board {
	return &Board{self: self, timeout: timeout, others: map[string]*member{}}
}

// Beat is how often a replica says that it is live.
func (b *Board) Beat() time.Duration { return b.timeout / 8 }

// Settle is how long a replica listens after it connected before it acts.
func (b *Board) Settle() time.Duration { return b.timeout / 10 }

// Lease is for how long after a beat a replica may act.
func (b *Board) Lease() time.Duration { return b.timeout / 2 }

// Connected begins a session whose first beat, sent at sent, the broker has acknowledged by now.
func (b *Board) Connected(session uint64, sent, now time.Time) {
	b.connected, b.session, b.leased, b.settled = true, session, sent, now.Add(b.Settle())
}

// Disconnected ends the session. What is known of the others is kept, and ages.
func (b *Board) Disconnected() { b.connected = false }

// Beaten tells that the broker acknowledged a beat that was sent at sent.
func (b *Board) Beaten(sent time.Time) {
	if sent.After(b.leased) {
		b.leased = sent
	}
}

// Heard takes a presence message that came at now. behind, when it is not 0, says that the broker remembers this replica
// under a greater session than the present one: others take no notice of it before it begins a session above that.
func (b *Board) Heard(r *api.Replica, now time.Time) (behind uint64) {
	if r.Replica == b.self {
		if b.connected && r.Session > b.session {
			return r.Session
		}
		return 0
	}
	m := b.others[r.Replica]
	if m == nil {
		b.others[r.Replica] = &member{*r, now}
		return 0
	}
	if r.Session < m.last.Session || r.Session == m.last.Session && (r.Beat <= m.last.Beat && r.State != api.ReplicaLost || m.last.State != api.ReplicaLive) {
		return 0 // late, repeated, or after the last word of its session
	}
	m.last, m.heard = *r, now
	return 0
}

// View is how things stand at now.
func (b *Board) View(now time.Time) View {
	var v View
	for name := range b.others {
		if b.live(name, now) {
			v.Members = append(v.Members, name)
		}
	}
	if b.Acting(now) {
		v.Acting = true
		v.Members = append(v.Members, b.self)
	}
	slices.Sort(v.Members)
	return v
}

// Acting reports whether this replica may act for its share at now.
func (b *Board) Acting(now time.Time) bool {
	return b.connected && !now.Before(b.settled) && now.Sub(b.leased) < b.Lease()
}

func (b *Board) live(name string, now time.Time) bool {
	m := b.others[name]
	return m.last.State == api.ReplicaLive && now.Sub(m.heard) < b.timeout
}

// Others are the replicas that were ever heard of, this one not among them, with their last words; one that has been silent
// for too long is shown as lost.
func (b *Board) Others(now time.Time) []api.Replica {
	out := make([]api.Replica, 0, len(b.others))
	for name, m := range b.others {
		r := m.last
		if r.State == api.ReplicaLive && !b.live(name, now) {
			r.State = api.ReplicaLost
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b api.Replica) int { return cmp.Compare(a.Replica, b.Replica) })
	return out
}

// Of returns which of members acts for node, empty when there are none: the one whose name and the node's have the
// greatest digest together.
func Of(members []string, node string) string {
	best, most := "", uint64(0)
	for _, m := range members {
		sum := sha256.Sum256([]byte(m + "\x00" + node))
		if v := binary.BigEndian.Uint64(sum[:]); best == "" || v > most {
			best, most = m, v
		}
	}
	return best
}

// Next is the claim of owner that supersedes all of seen.
func Next(owner string, seen ...api.Claim) api.Claim {
	c := api.Claim{Owner: owner}
	for _, s := range seen {
		c.Term = max(c.Term, s.Term)
	}
	c.Term++
	return c
}
