package fault

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/kube"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// viaKube is how an order that is a NodeCommand was given.
const viaKube = "kube"

// nodeCommand is what a NodeCommand says.
type nodeCommand struct {
	object
	Status struct {
		ID, Phase, Reason, Outcome string
		History                    []struct{ Phase, Side, Reason string }
	}
}

// order gives a command as a NodeCommand, whose name is the order's id until its UID is known. One that is there is the same.
func (k *kubeTier) order(ctx context.Context, o *account.Order, args map[string]any) error {
	spec := map[string]any{"node": o.Node, "verb": o.Verb, "deadline": orderWithin.String()}
	if args != nil {
		spec["args"] = args
	}
	err := k.do(ctx, http.MethodPost, commandsPath, map[string]any{"apiVersion": "edge.mlsysops.eu/v1alpha1", "kind": "NodeCommand",
		"metadata": map[string]any{"name": o.ID}, "spec": spec}, nil)
	if kube.Refused(err, http.StatusConflict) {
		return nil
	}
	return err
}

// uids renames the orders that are NodeCommands as the journals have them, and returns their names by that id. An order whose object is not
// there keeps its name.
func (k *kubeTier) uids(ctx context.Context, orders []account.Order) (names map[string]string, err error) {
	var list listOf[object]
	if err := k.do(ctx, http.MethodGet, commandsPath, nil, &list); err != nil {
		return nil, err
	}
	ids := map[string]string{}
	for _, o := range list.Items {
		ids[o.Metadata.Name] = "kube-" + o.Metadata.UID
	}
	names = map[string]string{}
	for i := range orders {
		if id, there := ids[orders[i].ID]; there && orders[i].Via == viaKube {
			names[id] = orders[i].ID
			orders[i].ID = id
		}
	}
	return names, nil
}

// kubeView is what NodeCommands say.
type kubeView struct {
	tier   *kubeTier
	within time.Duration // how long after its deadline a command may take to say its end
}

// Name is kube.
func (*kubeView) Name() string { return "kube" }

// Commands waits until every object has an end, and reads them. It shows orders that were given as objects alone.
func (v *kubeView) Commands(ctx context.Context, orders []account.Order) (map[string]account.Life, bool, error) {
	for {
		var list listOf[nodeCommand]
		if err := v.tier.do(ctx, http.MethodGet, commandsPath, nil, &list); err != nil {
			return nil, false, err
		}
		lives, open := v.read(list.Items, orders)
		if open == nil || time.Now().After(open.Deadline.Add(v.within)) {
			return lives, false, nil
		}
		if !agent.Wait(ctx, 200*time.Millisecond) {
			return nil, false, ctx.Err()
		}
	}
}

// read makes lives of objects. open is the order that ends last, of those that have none yet.
func (v *kubeView) read(list []nodeCommand, orders []account.Order) (lives map[string]account.Life, open *account.Order) {
	lives = map[string]account.Life{}
	for i := range list {
		uid := list[i].Metadata.UID
		lives["kube-"+uid] = lifeOf(&list[i], v.tier.seen.of(uid))
	}
	for i := range orders {
		o := &orders[i]
		life, there := lives[o.ID]
		if o.Via != viaKube || !there && !o.Answered {
			continue
		}
		life.Due = true
		lives[o.ID] = life
		if len(life.Finals) == 0 && (open == nil || o.Deadline.After(open.Deadline)) {
			open = o
		}
	}
	return lives, open
}

// lifeOf is the life of an object: its ends are all that it was ever seen to say.
func lifeOf(c *nodeCommand, seen []string) account.Life {
	rec := api.CommandRecord{Phase: api.Phase(c.Status.Phase), Final: api.Phase(c.Status.Phase).Final()}
	for _, t := range c.Status.History {
		rec.History = append(rec.History, api.Transition{Phase: api.Phase(t.Phase), Side: t.Side, Reason: t.Reason})
	}
	if c.Status.Outcome != "" {
		rec.Status = &api.Status{Phase: api.Phase(c.Status.Outcome)}
	}
	l := account.LifeOf(&rec)
	l.Unordered = c.Status.ID == ""
	ended := false
	for _, p := range seen {
		if ended {
			l.Finals = append(l.Finals, api.Phase(p)) // an end was taken back
		}
		ended = ended || api.Phase(p).Final()
	}
	return l
}

// clearCommands deletes all NodeCommands.
func (k *kubeTier) clearCommands(ctx context.Context) error {
	if err := k.do(ctx, http.MethodDelete, commandsPath, nil, nil); err != nil {
		return fmt.Errorf("clear NodeCommands: %w", err)
	}
	return nil
}
