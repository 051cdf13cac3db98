package account

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// Getter reads from the REST interface of a cluster agent.
type Getter interface {
	Get(ctx context.Context, path string, out any) error
}

// REST is the view of the REST interface. It waits for commands that have not ended yet.
type REST struct {
	Client Getter
	Grace  time.Duration // how long after its deadline a command may take to be closed
}

// Name is rest.
func (*REST) Name() string { return "rest" }

// Commands reads each order's record, when its end is due at the latest. An order that was not answered and is not there
// never existed.
func (v *REST) Commands(ctx context.Context, orders []Order) (map[string]Life, bool, error) {
	out := make(map[string]Life, len(orders))
	for i := range orders {
		o := &orders[i]
		for {
			var rec api.CommandRecord
			err := v.Client.Get(ctx, "/v1/commands/"+url.PathEscape(o.ID), &rec)
			if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusNotFound {
				break
			}
			if err != nil {
				return nil, false, err
			}
			if !rec.Final && time.Now().Before(o.Deadline.Add(v.Grace)) && agent.Wait(ctx, 200*time.Millisecond) {
				continue
			}
			out[o.ID] = LifeOf(&rec)
			break
		}
	}
	return out, true, nil
}

// LifeOf reads a record. The history tells every end, the last status what the node said.
func LifeOf(rec *api.CommandRecord) Life {
	l := Life{Due: true}
	for _, t := range rec.History {
		if !t.Phase.Final() {
			continue
		}
		if late, ok := strings.CutPrefix(t.Reason, "late: "); ok && t.Side == "node" {
			word, _, _ := strings.Cut(late, ":")
			if p := api.Phase(word); p.Final() {
				l.Late = p
			}
			continue
		}
		l.Closed = l.Closed || t.Side == "cluster"
		l.Reason = t.Reason
		l.Finals = append(l.Finals, t.Phase) // a second one is a second one, even if it is the same
	}
	if rec.Final && !slices.Contains(l.Finals, rec.Phase) {
		l.Finals = append(l.Finals, rec.Phase)
	}
	if rec.Status != nil && rec.Status.Phase.Final() {
		l.Said = append(l.Said, rec.Status.Phase)
	}
	return l
}

// Nodes lists them.
func (v *REST) Nodes(ctx context.Context) (map[string]Sight, error) {
	var list api.List[api.Node]
	if err := v.Client.Get(ctx, "/v1/nodes", &list); err != nil {
		return nil, err
	}
	out := make(map[string]Sight, len(list.Items))
	for i := range list.Items {
		n := &list.Items[i]
		s := Sight{Presence: n.Presence, Desired: n.Desired.Generation}
		if n.Reported != nil {
			s.Reported = n.Reported.Generation
		}
		out[n.ID] = s
	}
	return out, nil
}
