package registry

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

var zero = time.UnixMilli(1_764_000_000_000)

func at(d time.Duration) time.Time { return zero.Add(d) }

func windows() *Windows {
	return &Windows{LostAfter: 24 * time.Hour, StartGrace: 10 * time.Minute, BrokerGrace: time.Minute,
		SleepMargin: 2 * time.Minute, Silence: 3 * time.Minute}
}

func TestDecide(t *testing.T) {
	state := func(s api.NodeState, epoch uint64, reason string) *api.State {
		return &api.State{State: s, Epoch: epoch, Boot: "b", At: api.At(zero), Reason: reason}
	}
	nap := state(api.StateSleeping, 3, "")
	nap.Wake = nap.At + 3600_000
	nap.At += 5 * 3600_000 // its clock is five hours off; the length of the sleep is what counts
	nap.Wake += 5 * 3600_000
	self := Self{Started: at(-100 * time.Hour), Broker: true, BrokerAt: at(-100 * time.Hour), Attended: 100 * time.Hour}
	started := Self{Started: zero, Broker: true, BrokerAt: zero, Attended: 100 * time.Hour}
	cut := Self{Started: at(-100 * time.Hour), BrokerAt: zero, Attended: 100 * time.Hour}
	online := state(api.StateOnline, 3, "")
	heard := Facts{State: online, StateAt: zero, Confirmed: zero}
	missing := Standing{Presence: api.PresenceDisconnected, Since: 5, AbsentFrom: 90 * time.Hour}
	for _, tc := range []struct {
		name   string
		f      Facts
		was    Standing
		self   Self
		now    time.Duration
		want   api.Presence
		reason string
		next   time.Duration // -1: none
	}{
		{"never came", Facts{Enrolled: zero}, Standing{}, self, time.Hour, api.PresenceEnrolled, "never connected", -1},
		{"came, said nothing", Facts{Enrolled: zero, LinkKnown: true, Links: 1}, Standing{}, self, 0, api.PresenceEnrolled, "not said its state", -1},
		{"online", heard, Standing{}, self, time.Hour, api.PresenceOnline, "connected", -1},
		{"draining", Facts{State: state(api.StateDraining, 3, "update"), StateAt: zero, Confirmed: zero}, Standing{}, self, 0, api.PresenceDraining, "update", -1},
		{"goodbye", Facts{State: state(api.StateOffline, 3, "reboot"), StateAt: zero}, missing, self, 9000 * time.Hour, api.PresenceOffline, "reboot", -1},
		{"goodbye without a reason", Facts{State: state(api.StateOffline, 3, ""), StateAt: zero}, Standing{}, self, 0, api.PresenceOffline, "stopped", -1},
		{"last will", Facts{State: state(api.StateLost, 3, "keepalive timeout"), StateAt: zero}, Standing{}, self, 0, api.PresenceDisconnected, "keepalive timeout", 24 * time.Hour},
		{"last will, reason by the link", Facts{State: state(api.StateLost, 3, ""), StateAt: zero, LinkReason: "taken over"}, Standing{}, self, 0, api.PresenceDisconnected, "taken over", 24 * time.Hour},
		{"last will, connected again", Facts{State: state(api.StateLost, 3, ""), StateAt: zero, LinkKnown: true, Links: 1, LinkAt: at(time.Second)}, missing, self, 30 * time.Hour, api.PresenceDisconnected, "connected again", -1},
		{"last will, ten hours ago", Facts{State: state(api.StateLost, 3, "x"), StateAt: zero}, missing, self, 0, api.PresenceDisconnected, "x", 14 * time.Hour},
		{"last will, a day ago", Facts{State: state(api.StateLost, 3, "x"), StateAt: zero}, Standing{Presence: api.PresenceDisconnected, AbsentFrom: 76 * time.Hour}, self, 0, api.PresenceLost, "out of touch for more than 24h0m0s: x", -1},
		{"declared a longer autonomy", Facts{State: state(api.StateLost, 3, "x"), StateAt: zero, Autonomy: 72 * time.Hour}, Standing{Presence: api.PresenceDisconnected, AbsentFrom: 76 * time.Hour}, self, 0, api.PresenceDisconnected, "x", 48 * time.Hour},
		{"declared a shorter autonomy", Facts{State: state(api.StateLost, 3, "x"), StateAt: zero, Autonomy: time.Hour}, missing, self, 0, api.PresenceDisconnected, "x", 14 * time.Hour},
		{"lost stays lost", Facts{State: state(api.StateLost, 3, "x"), StateAt: zero}, Standing{Presence: api.PresenceLost, Reason: "why", AbsentFrom: 99 * time.Hour}, started, 0, api.PresenceLost, "why", -1},
		{"sleeping", Facts{State: nap, StateAt: zero}, Standing{}, self, 0, api.PresenceSleeping, "sleep", 66 * time.Minute},
		{"overslept", Facts{State: nap, StateAt: zero}, Standing{}, self, 66 * time.Minute, api.PresenceDisconnected, "did not wake", 66*time.Minute + 24*time.Hour},
		{"sleeping, cannot say when it wakes", Facts{State: state(api.StateSleeping, 3, "battery"), StateAt: zero}, Standing{}, self, 0, api.PresenceSleeping, "battery", 24 * time.Hour},
		{"we restarted", Facts{State: online, StateAt: zero}, Standing{Presence: api.PresenceOnline}, started, time.Minute, api.PresenceDisconnected, ReasonRestarted, 10 * time.Minute},
		{"we restarted long ago", Facts{State: online, StateAt: zero}, Standing{Presence: api.PresenceDisconnected, AbsentFrom: 100 * time.Hour}, started, 10 * time.Minute, api.PresenceDisconnected, "not back since", 24*time.Hour + 10*time.Minute},
		{"we restarted, it is due to be lost", Facts{State: state(api.StateLost, 3, "x"), StateAt: zero}, Standing{Presence: api.PresenceDisconnected, AbsentFrom: time.Hour}, started, 0, api.PresenceDisconnected, "x", 10 * time.Minute},
		{"broker away for a moment", heard, Standing{Presence: api.PresenceOnline}, cut, 59 * time.Second, api.PresenceOnline, "connected", time.Minute},
		{"broker away", heard, Standing{Presence: api.PresenceOnline}, cut, time.Minute, api.PresenceDisconnected, "out of touch with its broker", -1},
		{"broker away for days", Facts{State: state(api.StateLost, 3, "x"), StateAt: zero}, missing, cut, 900 * time.Hour, api.PresenceDisconnected, "x", -1},
		{"link lost", Facts{State: online, StateAt: zero, Confirmed: zero, LinkKnown: true, LinkReason: "read timeout"}, Standing{}, self, 0, api.PresenceDisconnected, "read timeout", 24 * time.Hour},
		{"linked", Facts{State: online, StateAt: zero, LinkKnown: true, Links: 1, Interval: time.Second}, Standing{}, self, 99 * time.Hour, api.PresenceOnline, "connected", -1},
		{"silent at a foreign broker", Facts{State: online, StateAt: zero, Confirmed: zero, LastSeen: at(time.Hour), Interval: 10 * time.Second}, Standing{}, self, time.Hour + 3*time.Minute, api.PresenceDisconnected, "silent for more than 3m0s", 25*time.Hour + 3*time.Minute},
		{"quiet at a foreign broker, slow by its own word", Facts{State: online, StateAt: zero, Confirmed: zero, LastSeen: at(time.Hour), Interval: time.Hour}, Standing{}, self, 3 * time.Hour, api.PresenceOnline, "connected", 6 * time.Hour},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "_"), func(t *testing.T) {
			tc.self.Attended += 0 // of now, given
			is, next := windows().Decide(&tc.f, tc.was, tc.self, at(tc.now))
			wantNext := time.Time{}
			if tc.next >= 0 {
				wantNext = at(tc.next)
				if tc.next == 24*time.Hour && tc.now != 0 {
					wantNext = at(tc.now + tc.next)
				}
			}
			if is.Presence != tc.want || !strings.Contains(is.Reason, tc.reason) || !next.Equal(wantNext) {
				t.Errorf("got %s (%s), next %v; wanted %s (%s), next %v", is.Presence, is.Reason, next.Sub(zero), tc.want, tc.reason, tc.next)
			}
			if is.Since > api.At(at(tc.now)) || tc.was.Presence == is.Presence && tc.was.Since != 0 && is.Since != tc.was.Since {
				t.Errorf("since %d", is.Since)
			}
		})
	}
}

func TestStateOfAnOlderSessionAndAfterALastWordIsIgnored(t *testing.T) {
	for _, tc := range []struct {
		name        string
		before      api.NodeState
		next        api.NodeState
		epoch       uint64 // of next; before has 5
		news, stale bool
	}{
		{"late will of an older session", api.StateOnline, api.StateLost, 4, false, true},
		{"will of this session", api.StateOnline, api.StateLost, 5, true, false},
		{"will while draining", api.StateDraining, api.StateLost, 5, true, false},
		{"will after a goodbye", api.StateOffline, api.StateLost, 5, false, true},
		{"will of a node asleep", api.StateSleeping, api.StateLost, 5, false, true},
		{"awake in the same session", api.StateSleeping, api.StateOnline, 5, true, false},
		{"online after its own will", api.StateLost, api.StateOnline, 5, false, true},
		{"online in a new session", api.StateLost, api.StateOnline, 6, true, false},
		{"will of a newer session", api.StateOnline, api.StateLost, 6, true, false},
		{"repeated", api.StateOnline, api.StateOnline, 5, false, false},
	} {
		f := Facts{}
		f.Take(&api.State{State: tc.before, Epoch: 5}, zero)
		news, stale := f.Take(&api.State{State: tc.next, Epoch: tc.epoch}, at(time.Second))
		if news != tc.news || stale != tc.stale {
			t.Errorf("%s: news %v, stale %v; wanted %v, %v", tc.name, news, stale, tc.news, tc.stale)
		}
		if want := map[bool]api.NodeState{true: tc.next, false: tc.before}[news]; f.State.State != want {
			t.Errorf("%s: state is %s; wanted %s", tc.name, f.State.State, want)
		}
	}
}

// world is the small model that every sequence of steps runs through: one node as Registry keeps it, and beside it the
// plain truth that the decisions are held against.
type world struct {
	f        Facts
	standing Standing
	self     Self // Attended as of attendedAt
	now      time.Time
	absent   time.Duration // attended time since the node was last well, by the model
	highest  uint64
}

const step = 10 * time.Hour // two are less than the window of 24 h, three more

func (w *world) live() Self {
	s := w.self
	if s.Broker {
		s.Attended += w.now.Sub(s.BrokerAt)
	}
	return s
}

func (w *world) say(s api.NodeState, epoch uint64) {
	w.f.Take(&api.State{State: s, Epoch: epoch, At: api.At(zero), Wake: api.At(at(time.Hour))}, w.now)
}

var steps = []struct {
	name string
	do   func(w *world)
}{
	{"online", func(w *world) { w.say(api.StateOnline, max(w.highest, 1)) }},
	{"online anew", func(w *world) { w.say(api.StateOnline, w.highest+1) }},
	{"will", func(w *world) { w.say(api.StateLost, max(w.highest, 1)) }},
	{"old will", func(w *world) { w.say(api.StateLost, max(w.highest, 2)-1) }},
	{"goodbye", func(w *world) { w.say(api.StateOffline, max(w.highest, 1)) }},
	{"sleep", func(w *world) { w.say(api.StateSleeping, max(w.highest, 1)) }},
	{"link", func(w *world) { w.f.LinkKnown, w.f.Links, w.f.LinkAt = true, 1, w.now }},
	{"unlink", func(w *world) { w.f.LinkKnown, w.f.Links, w.f.LinkAt = true, 0, w.now }},
	{"broker", func(w *world) {
		self := w.live()
		self.Broker, self.BrokerAt = !self.Broker, w.now
		w.self = self
	}},
	{"restart", func(w *world) { // away for a while: not attended
		attended := w.live().Attended
		w.now = w.now.Add(step)
		w.f = w.f.restored()
		w.self = Self{Started: w.now, Broker: true, BrokerAt: w.now, Attended: attended}
	}},
	{"time", func(w *world) { w.now = w.now.Add(step) }},
}

// TestNoSequenceOfFactsBreaksTheRules tries every sequence of up to six steps.
func TestNoSequenceOfFactsBreaksTheRules(t *testing.T) {
	depth := 6
	if testing.Short() {
		depth = 5
	}
	win, lost, tried := windows(), 0, 0
	var walk func(w world, depth int, path []string)
	walk = func(w world, depth int, path []string) {
		if depth == 0 {
			return
		}
		for _, s := range steps {
			tried++
			next := w
			before := next.live().Attended
			s.do(&next)
			here := append(path, s.name)
			if next.f.Epoch < w.f.Epoch || next.f.State != nil && next.f.State.Epoch < w.highest && next.f.State != w.f.State {
				t.Fatalf("%v: epoch fell to %d", here, next.f.Epoch)
			}
			next.highest = max(w.highest, next.f.Epoch)
			next.absent += next.live().Attended - before
			is, look := win.Decide(&next.f, w.standing, next.live(), next.now)
			check(t, &next, is, look, here)
			if is.Presence == api.PresenceLost {
				lost++
			}
			if !is.missing() || next.f.Links > 0 {
				next.absent = 0
			} else if !w.standing.missing() {
				next.absent = 0 // it goes missing only now that it is noticed
			}
			next.standing = is
			walk(next, depth-1, here)
		}
	}
	walk(world{now: zero, f: Facts{Enrolled: zero}, self: Self{Started: zero, Broker: true, BrokerAt: zero}}, depth, nil)
	if lost == 0 {
		t.Fatal("nothing was ever lost: the model does not reach what it is for")
	}
	t.Logf("%d steps, %d times lost", tried, lost)
}

func check(t *testing.T, w *world, is Standing, look time.Time, path []string) {
	t.Helper()
	s := w.f.State
	switch {
	case is.Presence == api.PresenceLost && w.standing.Presence != api.PresenceLost && w.absent < 24*time.Hour:
		t.Fatalf("%v: lost after %s of attended absence", path, w.absent)
	case is.Presence == api.PresenceLost && w.standing.Presence != api.PresenceLost && !w.self.Broker:
		t.Fatalf("%v: lost while the broker is away", path)
	case is.Presence == api.PresenceLost && w.now.Sub(w.self.Started) < 10*time.Minute && w.standing.Presence != api.PresenceLost:
		t.Fatalf("%v: lost right after a start", path)
	case (is.Presence == api.PresenceOnline) && (s == nil || s.State != api.StateOnline):
		t.Fatalf("%v: online, but its last word is %+v", path, s)
	case is.Presence == api.PresenceEnrolled != (s == nil):
		t.Fatalf("%v: %s with state %+v", path, is.Presence, s)
	case s != nil && s.State == api.StateOffline && is.Presence != api.PresenceOffline:
		t.Fatalf("%v: said goodbye and is %s", path, is.Presence)
	case !look.IsZero() && !look.After(w.now):
		t.Fatalf("%v: look again at %s, which is not after now", path, look.Sub(w.now))
	case is.Presence == api.PresenceDisconnected && w.self.Broker && look.IsZero() && !(w.f.Links > 0):
		t.Fatalf("%v: disconnected (%s), and nobody looks again", path, is.Reason)
	case is.Since == 0 || is.Since > api.At(w.now):
		t.Fatalf("%v: since %d", path, is.Since)
	}
}
