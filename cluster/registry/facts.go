package registry

import (
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Facts is what presence is decided from, for one node. Instants are by the cluster agent's clock.
type Facts struct {
	Enrolled time.Time
	Epoch    uint64     // the newest session known, from state or birth
	State    *api.State // the last one taken; nil: none ever
	StateAt  time.Time  // when it was taken for the first time

	Autonomy time.Duration // declared by the node: how long it may be out of touch
	Interval time.Duration // declared by the node: between telemetry batches; 0: not told

	Elsewhere string // why another cluster agent knows, and this one does not; empty: this one acts for the node

	Taken time.Time // when this one took over from another; zero: never

	// What is known of this run of the cluster agent only.
	Confirmed  time.Time // when the broker last said State, also unchanged; zero: not since the start
	LastSeen   time.Time // the last message of the node itself
	LinkKnown  bool      // the broker tells connections: Links is meaningful
	Links      int       // connections of the node; two for a moment at a takeover
	LinkAt     time.Time // when Links last became or left zero
	LinkReason string    // why it last left
}

// Take applies what the node, or the broker for it, says of its state, and reports whether that is news. An older
// epoch, and whatever follows the last word of a session, is not.
func (f *Facts) Take(s *api.State, now time.Time) (news, stale bool) {
	if s.Epoch < f.Epoch {
		return false, true
	}
	if f.State != nil && s.Epoch == f.State.Epoch {
		if *s == *f.State {
			f.Confirmed = now
			return false, false
		}
		if !follows(f.State.State, s.State) {
			return false, true
		}
	}
	taken := *s
	f.Epoch, f.State, f.StateAt, f.Confirmed = s.Epoch, &taken, now, now
	return true, false
}

// follows reports whether a session that said before can go on to say next. A last will after a goodbye only means that
// the connection broke before it was closed; nothing comes after a last will.
func follows(before, next api.NodeState) bool {
	switch before {
	case api.StateLost, api.StateOffline:
		return false
	case api.StateSleeping:
		return next != api.StateLost
	default:
		return true
	}
}

// heard reports whether anything of this run of the cluster agent speaks for the node.
func (f *Facts) heard() bool { return !f.Confirmed.IsZero() || !f.LastSeen.IsZero() || f.LinkKnown }

// restored returns the facts as they are after the cluster agent was away.
func (f Facts) restored() Facts {
	f.Confirmed, f.LastSeen, f.LinkAt = time.Time{}, time.Time{}, time.Time{}
	f.LinkKnown, f.Links, f.LinkReason = false, 0, ""
	return f
}

// Self is what the cluster agent knows of itself.
type Self struct {
	Started  time.Time     // of this run
	Broker   bool          // whether it is in touch with the broker
	BrokerAt time.Time     // since when, or since when not
	Attended time.Duration // for how long, over all runs, it was up and in touch
}

// Standing is a decision. AbsentFrom is Self.Attended when the node went missing.
type Standing struct {
	Presence   api.Presence  `json:"presence"`
	Reason     string        `json:"reason"`
	Since      api.Millis    `json:"since"`
	AbsentFrom time.Duration `json:"absentFrom,omitempty"`
}

// missing reports whether the node is out of touch without a goodbye.
func (s *Standing) missing() bool {
	return s.Presence == api.PresenceDisconnected || s.Presence == api.PresenceLost
}
