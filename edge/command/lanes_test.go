package command

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// follower is a verb that converses when it follows.
type follower struct{ spy }

func (f *follower) Spec() Spec {
	s := f.spy.Spec()
	s.Follows, s.Args = true, api.Schema{Type: "object", Properties: map[string]api.Schema{"follow": {Type: "boolean"}}}
	return s
}

func TestFollowersTakeNoPlaceOfOtherCommandsAndAreBounded(t *testing.T) {
	verbs := []Verb{&follower{spy{name: "tail", act: untilTold}}, &spy{name: "exec", act: done}}
	bubble(t, Config{Verbs: verbs, Concurrency: 2}, func(t *testing.T, b *bench) {
		follow := map[string]any{"follow": true}
		for i := range conversations {
			id := fmt.Sprintf("f%d", i)
			b.handle(b.order(id, "tail", follow))
			b.want(id, api.PhaseRunning)
		}
		b.handle(b.order("e", "exec", nil))
		b.want("e", api.PhaseSucceeded)
		b.handle(b.order("more", "tail", follow))
		if s := b.want("more", api.PhaseRejected); !strings.Contains(s.Reason, "busy: 32 followed logs") {
			t.Errorf("reason %q; wanted what is full", s.Reason)
		}
		b.handle(b.order("once", "tail", map[string]any{"follow": false}))
		b.want("once", api.PhaseRunning)
	})
}

func TestACommandThatWaitsForAPlaceSaysSo(t *testing.T) {
	verbs := []Verb{&spy{name: "long", act: untilTold}, &spy{name: "exec", act: done}}
	bubble(t, Config{Verbs: verbs, Concurrency: 2}, func(t *testing.T, b *bench) {
		b.handle(b.order("l1", "long", nil), b.order("l2", "long", nil))
		late := b.order("e", "exec", nil)
		late.Deadline = late.Issued + 8000
		b.handle(late)
		const why = "waits for a place: 2 commands run (long, long)"
		if s := b.want("e", api.PhaseAccepted); s.Progress != why {
			t.Errorf("progress %q; wanted %q", s.Progress, why)
		}
		b.Resend(t.Context()) // what a new session of the cluster agent hears
		if s := b.want("e", api.PhaseAccepted); s.Progress != why {
			t.Errorf("progress %q after a reconnect; wanted %q", s.Progress, why)
		}
		pass(t, 9*time.Second)
		if s := b.want("e", api.PhaseTimedOut); s.Reason != "not begun by its deadline: "+why {
			t.Errorf("reason %q", s.Reason)
		}
	})
}
