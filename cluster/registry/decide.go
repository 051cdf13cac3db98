package registry

import (
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Windows are the bounds of Decide, all above zero.
type Windows struct {
	LostAfter   time.Duration // least absence before a node is lost; a node may declare a longer one
	StartGrace  time.Duration // for how long after a start of the cluster agent no node becomes lost
	BrokerGrace time.Duration // for how long the broker may be out of touch before presence is called unknown
	SleepMargin time.Duration // how much later than it said a sleeping node may wake
	Silence     time.Duration // least silence that counts, where the broker does not tell connections
}

// silentIntervals is how many telemetry intervals in a row make a silence.
const silentIntervals = 5

// The reasons that others look for.
const (
	ReasonRestarted = "cluster agent restarted; waiting for the node"
	ReasonTaken     = "taken over from another replica; waiting for the node"
	ReasonBroker    = "cluster agent is out of touch with its broker; nothing is known of the node"
)

// verdict is a presence before the past is considered.
type verdict struct {
	presence api.Presence
	reason   string
	since    time.Time // zero: now
	next     time.Time // when to look again; zero: only when a fact changes
	present  bool      // missing by its own word, but connected: does not get lost
}

// Decide concludes the presence of a node from f and where it stood before, and says when to look again (zero: when a
// fact changes). It is pure.
func (w *Windows) Decide(f *Facts, was Standing, self Self, now time.Time) (is Standing, next time.Time) {
	v := w.judge(f, self, now)
	is = Standing{Presence: v.presence, Reason: v.reason}
	if is.missing() {
		is.AbsentFrom = self.Attended
		if was.missing() && !v.present {
			is.AbsentFrom = min(was.AbsentFrom, self.Attended)
		}
		if !v.present {
			v.next = earliest(v.next, w.lose(&is, was, max(f.Autonomy, w.LostAfter), self.at(now)))
		}
	}
	since := v.since
	if since.IsZero() || since.After(now) || is.Presence == api.PresenceLost {
		since = now
	}
	is.Since = api.At(since)
	if is.Presence == was.Presence && was.Since != 0 {
		is.Since = was.Since
	}
	return is, v.next
}

// selfAt is Self at a moment.
type selfAt struct {
	Self
	now time.Time
}

func (s Self) at(now time.Time) selfAt { return selfAt{s, now} }

// lose turns a disconnection that lasted the window into lost, or says when that may be. What is lost stays lost until
// the node is heard of.
func (w *Windows) lose(is *Standing, was Standing, window time.Duration, self selfAt) (next time.Time) {
	if was.Presence == api.PresenceLost {
		is.Presence, is.Reason = api.PresenceLost, was.Reason
		return time.Time{}
	}
	if !self.Broker {
		return time.Time{} // time does not count; the broker's return is a fact
	}
	at := latest(self.now.Add(window-(self.Attended-is.AbsentFrom)),
		self.Started.Add(w.StartGrace), self.BrokerAt.Add(w.BrokerGrace))
	if at.After(self.now) {
		return at
	}
	is.Presence = api.PresenceLost
	is.Reason = fmt.Sprintf("out of touch for more than %s: %s", window, is.Reason)
	return time.Time{}
}

// judge concludes from the facts of now alone. It never says lost.
func (w *Windows) judge(f *Facts, self Self, now time.Time) verdict {
	if f.Elsewhere != "" {
		return verdict{presence: api.PresenceElsewhere, reason: f.Elsewhere}
	}
	if f.State == nil {
		v := verdict{presence: api.PresenceEnrolled, reason: "has never connected", since: f.Enrolled}
		if f.Links > 0 {
			v.reason = "connected; has not said its state yet"
		}
		return v
	}
	switch f.State.State {
	case api.StateOffline:
		return verdict{presence: api.PresenceOffline, reason: orElse(f.State.Reason, "stopped"), since: f.StateAt}
	case api.StateSleeping:
		return w.judgeSleep(f, now)
	case api.StateLost:
		v := verdict{presence: api.PresenceDisconnected, reason: orElse(f.State.Reason, orElse(f.LinkReason, "link lost")),
			since: f.StateAt}
		if f.Links > 0 { // a takeover, or a session that has just begun
			v.reason, v.present = v.reason+"; connected again, has not said its state yet", true
		}
		return v
	default:
		return w.judgeLive(f, self, now)
	}
}

// judgeSleep is about a node that said it would sleep. Its clock may be off, so only the length of its sleep counts.
func (w *Windows) judgeSleep(f *Facts, now time.Time) verdict {
	wake := f.StateAt.Add(max(f.Autonomy, w.LostAfter)) // it cannot say when
	if length := f.State.Wake - f.State.At; f.State.Wake > 0 && length >= 0 {
		sleep := min(time.Duration(length), 365*24*time.Hour/time.Millisecond) * time.Millisecond
		wake = f.StateAt.Add(sleep + max(w.SleepMargin, sleep/10))
	}
	if !now.Before(wake) && f.Links == 0 {
		return verdict{presence: api.PresenceDisconnected, reason: "did not wake when it said it would", since: wake}
	}
	v := verdict{presence: api.PresenceSleeping, reason: orElse(f.State.Reason, "said that it would sleep"), since: f.StateAt}
	if now.Before(wake) {
		v.next = wake
	}
	return v
}

// judgeLive is about a node whose last word was online or draining.
func (w *Windows) judgeLive(f *Facts, self Self, now time.Time) verdict {
	live := verdict{presence: api.PresenceOnline, reason: orElse(f.State.Reason, "connected"), since: f.StateAt}
	if f.State.State == api.StateDraining {
		live.presence = api.PresenceDraining
	}
	gone := verdict{presence: api.PresenceDisconnected}
	switch {
	case !f.heard():
		gone.reason, gone.since = ReasonRestarted, self.Started
		if f.Taken.After(self.Started) {
			gone.reason, gone.since = ReasonTaken, f.Taken
		}
		if gone.next = gone.since.Add(w.StartGrace); !now.Before(gone.next) {
			gone.reason, gone.next = "not back since the cluster agent restarted", time.Time{}
			if f.Taken.After(self.Started) {
				gone.reason = "not back since it was taken over from another replica"
			}
		}
		return gone
	case !self.Broker:
		limit := self.BrokerAt.Add(w.BrokerGrace)
		if now.Before(limit) {
			live.next = limit
			return live
		}
		gone.reason, gone.since = ReasonBroker, self.BrokerAt
		return gone
	case f.LinkKnown && f.Links == 0:
		gone.reason, gone.since = orElse(f.LinkReason, "link lost"), f.LinkAt
		return gone
	case f.LinkKnown || f.Interval == 0:
		return live
	}
	// The broker is somebody else's: only the node's own messages tell.
	last := latest(f.LastSeen, f.Confirmed, self.BrokerAt)
	silence := max(w.Silence, silentIntervals*f.Interval)
	if limit := last.Add(silence); now.Before(limit) {
		live.next = limit
		return live
	}
	gone.reason, gone.since = fmt.Sprintf("silent for more than %s", silence), last
	return gone
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func latest(times ...time.Time) time.Time {
	var last time.Time
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// earliest ignores zero times.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
