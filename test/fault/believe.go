package fault

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// stateFile is where a node agent has its journal of commands.
const stateFile = "state.db"

// records tells what the cluster agent knows of a command, nil when it knows none.
type records func(ctx context.Context, id string) (*api.CommandRecord, error)

func (r *Rig) record(ctx context.Context, id string) (*api.CommandRecord, error) {
	var rec api.CommandRecord
	err := r.site.Client.Get(ctx, "/v1/commands/"+id, &rec)
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusNotFound {
		return nil, nil
	}
	return &rec, err
}

// pings are commands that a node agent does not journal, because they may be done any number of times. So their truth is the cluster
// agent's last word of the node, and all that is judged is that every view agrees with it.
func pings(ctx context.Context, orders []account.Order, known records) (map[string]account.Command, error) {
	out := map[string]account.Command{}
	for i := range orders {
		o := &orders[i]
		if o.Verb != "ping" {
			continue
		}
		rec, err := known(ctx, o.ID)
		if err != nil {
			return nil, err
		}
		c := account.Command{Node: o.Node, Verb: o.Verb, Arrivals: 1}
		if c.Finals = lastWord(rec); len(c.Finals) == 0 {
			continue
		}
		if c.Finals[0] == api.PhaseSucceeded {
			c.Effects = 1
		}
		out[o.ID] = c
	}
	return out, nil
}

// believe fills in the ends of commands that a node agent's journal lacks since it was damaged: of those ordered before that, and of no
// others, for the journal in its place has these.
func believe(ctx context.Context, edge string, hurt time.Time, orders []account.Order, known records, commands map[string]account.Command) error {
	for i := range orders {
		o := &orders[i]
		c, there := commands[o.ID]
		if o.Node != edge || o.Verb == "ping" || !o.At.Before(hurt) || there && len(c.Finals) > 0 {
			continue
		}
		rec, err := known(ctx, o.ID)
		if err != nil {
			return err
		}
		c.Node, c.Verb, c.Finals = o.Node, o.Verb, lastWord(rec)
		if there && len(c.Finals) == 0 && rec != nil && rec.Final { // done, and forgotten as was told: the cluster agent's own end is all there can be
			switch {
			case rec.Phase == api.PhaseTimedOut:
				c.Finals = []api.Phase{rec.Phase}
			case rec.Phase == api.PhaseExpired && c.Effects <= 1: // no word of it came out before: as good as never arrived
				delete(commands, o.ID)
				continue
			}
		}
		if there || len(c.Finals) > 0 {
			commands[o.ID] = c
		}
	}
	return nil
}

// lastWord is the last word of a node that the cluster agent has, if it is an end. A word that differs from it shows in another view.
func lastWord(rec *api.CommandRecord) []api.Phase {
	if rec != nil && rec.Status != nil && rec.Status.Phase.Final() {
		return []api.Phase{rec.Status.Phase}
	}
	return nil
}
