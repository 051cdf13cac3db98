package registry

import (
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/api"
)

const (
	flapWindow  = 10 * time.Minute
	flapChanges = 6 // in a window, that are told one by one
)

// damper keeps a node whose presence changes all the time from filling the event log.
type damper struct {
	last    time.Time // change
	from    time.Time // of the window
	changes int       // in it
	muted   int
}

type telling int

const (
	tellIt telling = iota
	tellFlapping
	tellNothing
)

// change counts a change and says how to tell of it.
func (d *damper) change(now time.Time) telling {
	if d.changes == 0 || d.muted == 0 && now.Sub(d.from) >= flapWindow {
		d.from, d.changes = now, 0
	}
	d.last = now
	if d.changes++; d.changes <= flapChanges {
		return tellIt
	}
	if d.muted++; d.muted == 1 {
		return tellFlapping
	}
	return tellNothing
}

// ends is when an unsteady node counts as steady if nothing changes; zero when it is steady.
func (d *damper) ends() time.Time {
	if d.muted == 0 {
		return time.Time{}
	}
	return d.last.Add(flapWindow)
}

// settle ends a time of flapping and returns how many changes were not told in it.
func (d *damper) settle(now time.Time) (muted int, over bool) {
	if d.muted == 0 || now.Before(d.ends()) {
		return 0, false
	}
	muted = d.muted
	*d = damper{}
	return muted, true
}

// presenceEvent is the event of a presence that changed. What the whole fleet goes through because the cluster agent
// restarted or lost its broker is not worth an event of every node; not coming back is.
func presenceEvent(was, is Standing) (e api.EventRecord, worth bool) {
	switch {
	case was.Presence == "", ours(is.Reason), was.Presence == api.PresenceElsewhere, is.Presence == api.PresenceElsewhere:
		return e, false
	case ours(was.Reason) && (is.Presence == api.PresenceOnline || is.Presence == api.PresenceDraining):
		return e, false
	case is.Presence == was.Presence && !ours(was.Reason):
		return e, false
	}
	e = api.EventRecord{Class: api.ClassEvent, Kind: "node." + string(is.Presence), Message: is.Reason,
		Data: map[string]string{"was": string(was.Presence)}}
	if is.Presence == api.PresenceLost {
		e.Class = api.ClassAlarm
	}
	return e, true
}

// ours reports whether a presence was concluded from the cluster agent's own trouble.
func ours(reason string) bool {
	return reason == ReasonRestarted || reason == ReasonBroker || reason == ReasonTaken
}

func flapping() api.EventRecord {
	return api.EventRecord{Class: api.ClassAlarm, Kind: "node.flapping", Message: fmt.Sprintf(
		"presence changed more than %d times in %s; further changes are not told until it stays for %s",
		flapChanges, flapWindow, flapWindow)}
}

func steady(muted int) api.EventRecord {
	return api.EventRecord{Class: api.ClassEvent, Kind: "node.steady",
		Message: fmt.Sprintf("presence has not changed for %s; %d changes were not told", flapWindow, muted)}
}
