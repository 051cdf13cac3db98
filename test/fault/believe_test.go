package fault

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// TestAJournalThatWasDamagedExcusesWhatWasOrderedBefore has a journal that lacks every command.
func TestAJournalThatWasDamagedExcusesWhatWasOrderedBefore(t *testing.T) {
	hurt := time.Unix(1764000000, 0)
	said := func(p api.Phase) *api.CommandRecord {
		return &api.CommandRecord{Final: true, Phase: p, Status: &api.Status{Phase: p}}
	}
	own := func(p api.Phase) *api.CommandRecord { return &api.CommandRecord{Final: true, Phase: p} }
	for what, c := range map[string]struct {
		after   time.Duration // ordered so long after the damage
		journal *account.Command
		record  *api.CommandRecord
		want    string // what the truth then has
	}{
		"before, and ended":               {-time.Second, nil, said(api.PhaseSucceeded), "[succeeded] 0"},
		"before, and never heard of":      {-time.Second, nil, nil, "none"},
		"before, done, and timed out":     {-time.Second, &account.Command{Effects: 1}, own(api.PhaseTimedOut), "[timed_out] 1"},
		"before, done, and expired":       {-time.Second, &account.Command{Effects: 1}, own(api.PhaseExpired), "none"},
		"before, done twice, and expired": {-time.Second, &account.Command{Effects: 2}, own(api.PhaseExpired), "[] 2"},
		"before, and in the journal":      {-time.Second, &account.Command{Finals: []api.Phase{api.PhaseFailed}}, said(api.PhaseSucceeded), "[failed] 0"},
		"after, and ended":                {time.Second, nil, said(api.PhaseSucceeded), "none"},
		"after, done, and timed out":      {time.Second, &account.Command{Effects: 1}, own(api.PhaseTimedOut), "[] 1"},
		"after, done, and expired":        {time.Second, &account.Command{Effects: 1}, own(api.PhaseExpired), "[] 1"},
	} {
		commands := map[string]account.Command{}
		if c.journal != nil {
			commands["c"] = *c.journal
		}
		orders := []account.Order{{ID: "c", Node: tierEdge1, Verb: "exec", At: hurt.Add(c.after)}, {ID: "other", Node: tierEdge2, Verb: "exec", At: hurt.Add(-time.Second)}}
		known := func(context.Context, string) (*api.CommandRecord, error) { return c.record, nil }
		if err := believe(t.Context(), tierEdge1, hurt, orders, known, commands); err != nil {
			t.Fatal(err)
		}
		got := "none"
		if is, there := commands["c"]; there {
			got = fmt.Sprint(is.Finals, is.Effects)
		}
		if got != c.want {
			t.Errorf("%s: %s; wanted %s", what, got, c.want)
		}
		if _, there := commands["other"]; there {
			t.Errorf("%s: a command of another node is believed", what)
		}
	}
}
