package command

import (
	"slices"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestTheEndOfACommandThatIsNotKnownHereIsKeptForAnotherJournal(t *testing.T) {
	c := newClock()
	for keep, acked := range map[time.Duration]bool{0: true, time.Hour: false} {
		j := newJournal(t, Config{Now: c.Now, KeepUnknown: keep})
		at := api.At(c.Now())
		if err := j.OnStatus("n1", &api.Status{ID: "of-another", Phase: api.PhaseSucceeded, Epoch: 1, At: at}); err != nil {
			t.Fatal(err)
		}
		if got := len(j.Acks("n1")) == 1; got != acked {
			t.Errorf("kept for %s: acknowledged %t; wanted %t", keep, got, acked)
		}
		c.add(time.Hour + time.Second)
		if err := j.OnStatus("n1", &api.Status{ID: "of-another", Phase: api.PhaseSucceeded, Epoch: 1, At: at}); err != nil {
			t.Fatal(err)
		}
		if len(j.Acks("n1")) != 1 {
			t.Errorf("kept for %s: not acknowledged after an hour; the node would keep it for ever", keep)
		}
	}
}

func TestUnheardNodesAreThoseThatOweAWord(t *testing.T) {
	c := newClock()
	j := newJournal(t, Config{Now: c.Now})
	start := c.Now()
	for _, node := range []string{"accepted", "told", "silent", "late", "n1"} {
		j.OnNodeUp(node, 1, nil)
	}
	status := func(node string, p api.Phase) {
		t.Helper()
		if err := j.OnStatus(node, &api.Status{ID: "c-" + node, Phase: p, Epoch: 1, At: api.At(c.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range []string{"accepted", "told", "silent", "late", "queued"} {
		wait := time.Minute
		if node == "accepted" {
			wait = time.Hour
		}
		mustSubmit(t, j, Order{ID: "c-" + node, Node: node, Deadline: c.Now().Add(wait)})
	}
	status("accepted", api.PhaseAccepted)
	status("told", api.PhaseSucceeded)
	c.add(10 * time.Minute)
	j.turn(t.Context()) // closes what is past its deadline
	status("late", api.PhaseSucceeded)
	want := func(since time.Time, nodes ...string) {
		t.Helper()
		if got, err := j.Unheard(since); err != nil || !slices.Equal(got, nodes) {
			t.Errorf("unheard %v, %v; wanted %v", got, err, nodes)
		}
	}
	want(start, "accepted", "silent")
	want(c.Now().Add(time.Second), "accepted")
}
