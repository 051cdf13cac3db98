package system

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

const (
	killOrders = 1000
	killTimes  = 50
	killPace   = 3 * time.Second // on average, between two kills
)

// TestEveryCommandEndsExactlyOnceThroughKills kills both agents while commands are ordered, and then wants of every
// command one end, of every side effect at most one, and of every reported success its side effect.
func TestEveryCommandEndsExactlyOnceThroughKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	f := newField(t)
	script, effects := appender(t, f.dir)
	node := f.node("n1", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join,
		fmt.Sprintf("command: {exec: [{name: append, argv: [%s], args: ['[a-z0-9]+'], timeout: 20s}]}\n", script))
	start(t, node)
	f.online("n1")

	orders := make([]api.CommandRequest, killOrders)
	for i := range orders {
		id := api.NewID()
		orders[i] = api.CommandRequest{ID: id, Nodes: []string{"n1"}, Verb: "exec",
			Args: map[string]any{"argv": []string{script, id}}, Deadline: fmt.Sprintf("%ds", 20+dice.IntN(20))}
		if dice.IntN(2) == 0 {
			orders[i].Verb, orders[i].Args = "ping", nil
		}
	}
	issued := make(chan error, 1)
	go func() { issued <- f.issue(orders) }()
	killBoth(t, dice, f.cluster, node)
	if err := <-issued; err != nil {
		t.Fatal(err)
	}
	f.online("n1")
	f.judge(orders, effects)
}

// appender writes a script that appends its argument as one line to the file that is returned with it, and then lingers,
// so that kills meet commands whose side effect has happened and whose end is not known.
func appender(t *testing.T, dir string) (script, effects string) {
	t.Helper()
	script, effects = filepath.Join(dir, "append.sh"), filepath.Join(dir, "effects")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$1\" >>"+effects+"\nsleep 0.3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return script, effects
}

// killBoth kills one of the agents at a time, at random moments, and starts it again.
func killBoth(t *testing.T, dice *rand.Rand, agents ...*Process) {
	t.Helper()
	kills := map[string]int{}
	for range killTimes {
		timer := time.NewTimer(time.Duration(dice.Int64N(int64(2 * killPace))))
		select {
		case <-timer.C:
		case <-t.Context().Done():
			t.Fatal("test ended between kills")
		}
		p := agents[dice.IntN(len(agents))]
		kill(t, p)
		kills[p.Name]++
		start(t, p)
	}
	t.Logf("killed %v", kills)
}

// issue orders everything, with at most 40 commands open, and repeats what had no answer under the same id. It takes
// as long as the kills do.
func (f *field) issue(orders []api.CommandRequest) error {
	pace := time.NewTicker(killTimes * killPace / killOrders)
	defer pace.Stop()
	for i := range orders {
		giveUp := time.Now().Add(time.Minute)
		for {
			var st api.ClusterStatus
			err := f.get("/v1/status", &st)
			if err == nil && st.Open < 40 {
				err = f.post("/v1/commands", orders[i], nil)
				if err == nil {
					break
				}
				var refusal *api.Problem
				if errors.As(err, &refusal) && refusal.Status < http.StatusInternalServerError &&
					refusal.Status != http.StatusTooManyRequests {
					return fmt.Errorf("order %d: %w", i, err)
				}
			}
			if time.Now().After(giveUp) {
				return fmt.Errorf("order %d: not taken for a minute: %w", i, err)
			}
			<-pace.C
		}
		<-pace.C
	}
	return nil
}

// judge waits for every command's end and compares the ends with the side effects.
func (f *field) judge(orders []api.CommandRequest, effects string) {
	f.t.Helper()
	records := make([]api.CommandRecord, len(orders))
	ends := map[api.Phase]int{}
	for i := range orders {
		poll(f.t, 2*time.Minute, "the command "+orders[i].ID+" ends", func() error {
			records[i] = api.CommandRecord{}
			if err := f.get("/v1/commands/"+orders[i].ID, &records[i]); err != nil {
				return err
			}
			if !records[i].Final {
				return fmt.Errorf("history %v", records[i].History)
			}
			return nil
		})
		ends[records[i].Phase]++
	}
	f.t.Logf("ends: %v", ends)
	done := linesOf(f.t, effects)
	for i, r := range records {
		finals := slices.DeleteFunc(slices.Clone(r.History), func(x api.Transition) bool { return !x.Phase.Final() })
		if len(finals) != 1 || finals[0].Phase != r.Phase {
			f.t.Errorf("command %s is %s, its history %v; wanted one end", r.ID, r.Phase, r.History)
		}
		n := done[r.ID]
		delete(done, r.ID)
		switch {
		case n > 1:
			f.t.Errorf("command %s was executed %d times; history %v", r.ID, n, r.History)
		case orders[i].Verb == "exec" && r.Phase == api.PhaseSucceeded && n != 1:
			f.t.Errorf("command %s succeeded without its side effect; history %v", r.ID, r.History)
		case n == 1 && (r.Phase == api.PhaseRejected || r.Phase == api.PhaseExpired):
			f.t.Errorf("command %s is %s, yet it was executed; history %v", r.ID, r.Phase, r.History)
		}
	}
	for id := range done {
		f.t.Errorf("side effect %q of no command", id)
	}
	if ends[api.PhaseSucceeded] < len(orders)*3/4 {
		f.t.Errorf("only %d of %d commands succeeded", ends[api.PhaseSucceeded], len(orders))
	}
}

func linesOf(t *testing.T, path string) map[string]int {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(string(raw)) {
		out[strings.TrimSpace(line)]++
	}
	return out
}
