package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/access"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/cluster/rest"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

// viaMQTT begins the author of a command that came as an MQTT request.
const viaMQTT = "mqtt:"

func isRequest(rec *api.CommandRecord) bool { return strings.HasPrefix(rec.By, viaMQTT) }

func openCommands(node string) command.Filter {
	return command.Filter{Node: node, Open: true, Limit: 10_000}
}

// errRequest marks a request that does not decode.
var errRequest = errors.New("request cannot be read")

// onRequest takes a request of an operator over MQTT. Whatever is wrong with it is told on its status topic.
func (a *Agent) onRequest(ctx context.Context, m broker.Inbound) error {
	var req api.Request
	id, node := m.Topic.ID, m.Topic.Node
	who := rest.Principal{Name: m.From.Name, Role: m.From.Role, From: "mqtt"}
	err := a.codec.Decode(mqtt.KindRequest, m.Payload, &req)
	if err != nil {
		err = fmt.Errorf("%w: %w", errRequest, err)
	}
	entry := api.AuditEntry{By: who.Name, Role: who.Role, Via: "mqtt", Action: "command.create", Result: access.ResultOK,
		Object: strings.TrimSpace(fmt.Sprintf("%.63s %s %s", req.Verb, node, id))}
	var rec api.CommandRecord
	fresh := false
	if err == nil {
		rec, err = a.order(ctx, command.Order{ID: id, Node: node, Verb: req.Verb, Args: req.Args, By: viaMQTT + who.Name,
			Deadline: req.Deadline.Resolve(a.clock.Now()), Journalled: func(tx *bbolt.Tx) error {
				fresh = true
				_, err := a.audit.AppendTx(tx, entry)
				return err
			}}, who)
	}
	if err != nil {
		entry.Result = err.Error()
		a.record(entry)
		if _, final := errors.AsType[*api.Problem](err); !final && !errors.Is(err, errRequest) {
			return err // a fault of ours, such as a full disk: not acknowledged, so the request comes again
		}
		a.requesters.refuse(ctx, m.Topic, who.Name, err)
		return nil
	}
	if !fresh { // of a new one, mirror tells every step
		a.requesters.again(ctx, rec.ID)
	}
	return nil
}

// clip fits a text into a reason.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), api.MaxReasonBytes)], "") }

// order is the one door for commands: it checks that the caller may ask the node for the verb, then journals.
func (a *Agent) order(ctx context.Context, o command.Order, who rest.Principal) (api.CommandRecord, error) {
	if err := a.elsewhere(o.Node); err != nil {
		return api.CommandRecord{}, err
	}
	verbs, _ := a.registry.Verbs(o.Node)
	least := roleFor(o.Verb, verbs)
	if !who.Role.Includes(least) {
		return api.CommandRecord{}, &api.Problem{Status: http.StatusForbidden, Title: "not permitted", Code: "role",
			Detail: fmt.Sprintf("%s has role %s; %s takes %s", who.Name, who.Role, o.Verb, least), Cure: "ask an administrator"}
	}
	o, err := a.prepared(ctx, o)
	if err != nil {
		return api.CommandRecord{}, err
	}
	rec, err := a.journal.Submit(ctx, o)
	return rec, orderProblem(err)
}

// takes reports whether a node's verb has an argument. Nodes that are older than it refuse an order that names one.
func (a *Agent) takes(node, verb, arg string) bool {
	verbs, _ := a.registry.Verbs(node)
	i := slices.IndexFunc(verbs, func(v api.Verb) bool { return v.Name == verb })
	if i < 0 {
		return false
	}
	_, takes := verbs[i].Args.Properties[arg]
	return takes
}

// elsewhere is what to tell a caller who wants something of a node that another replica acts for, nil when this one does.
func (a *Agent) elsewhere(node string) error {
	if a.share == nil {
		return nil
	}
	return a.share.elsewhere(node)
}

// orderProblem tells callers what is wrong in their own terms.
func orderProblem(err error) error {
	for _, known := range []struct {
		err    error
		status int
		code   string
		cure   string
	}{
		{command.ErrInvalid, http.StatusBadRequest, "command_invalid", "skerry describe node NODE lists its verbs"},
		{command.ErrUnknownNode, http.StatusNotFound, "node_unknown", "skerry get nodes lists them"},
		{command.ErrConflict, http.StatusConflict, "command_conflict", "choose another id"},
		{command.ErrFull, http.StatusTooManyRequests, "command_full", "wait, or cancel some: skerry get commands --open"},
		{command.ErrNotFound, http.StatusNotFound, "command_unknown", "skerry get commands lists them"},
		{command.ErrFinal, http.StatusConflict, "command_final", ""},
		{command.ErrNotLoaded, http.StatusServiceUnavailable, "starting", "try again in a moment"},
	} {
		if errors.Is(err, known.err) {
			return &api.Problem{Status: known.status, Title: http.StatusText(known.status), Detail: err.Error(), Code: known.code, Cure: known.cure}
		}
	}
	return err
}

// orders is the REST side of the door.
type orders struct{ *Agent }

func (a orders) Order(ctx context.Context, req api.CommandRequest, who rest.Principal) ([]api.CommandRecord, error) {
	nodes, err := a.targets(req)
	if err != nil {
		return nil, err
	}
	var deadline api.Deadline
	if err := deadline.UnmarshalText([]byte(req.Deadline)); err != nil {
		return nil, badRequest("deadline", err)
	}
	at := deadline.Resolve(a.clock.Now())
	one := func(node string) (api.CommandRecord, error) {
		return a.order(ctx, command.Order{ID: req.ID, Node: node, Verb: req.Verb, Args: req.Args, By: "rest:" + who.Name, Deadline: at}, who)
	}
	if len(nodes) == 1 {
		rec, err := one(nodes[0])
		if err != nil {
			return nil, err
		}
		return []api.CommandRecord{rec}, nil
	}
	out := make([]api.CommandRecord, len(nodes))
	var all errgroup.Group
	all.SetLimit(ordersAtOnce)
	for i, node := range nodes {
		all.Go(func() error {
			rec, err := one(node)
			if err != nil { // of many, one that cannot be asked is told as what became of it
				rec = api.CommandRecord{Node: node, Verb: req.Verb, By: "rest:" + who.Name, Created: api.At(a.clock.Now()), Deadline: api.At(at),
					Phase: api.PhaseRejected, Final: true, History: []api.Transition{{Phase: api.PhaseRejected, At: api.At(a.clock.Now()),
						Side: "cluster", Reason: err.Error()}}}
			}
			out[i] = rec
			return nil
		})
	}
	return out, all.Wait()
}

// ordersAtOnce is how many commands of one request share the journal's transactions: one after the other, each would wait for the disk.
const ordersAtOnce = 64

// targets are the nodes that a request means.
func (a orders) targets(req api.CommandRequest) ([]string, error) {
	if (len(req.Nodes) == 0) == (req.Selector == "") {
		return nil, badRequest("nodes", errors.New("wanted either nodes or a selector"))
	}
	if req.ID != "" && len(distinct(req.Nodes)) != 1 {
		return nil, badRequest("id", errors.New("an id goes with exactly one node"))
	}
	if req.Selector == "" {
		return distinct(req.Nodes), nil
	}
	selector, err := parseSelector(req.Selector)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range a.registry.Nodes(selector) {
		out = append(out, n.ID)
	}
	if len(out) == 0 {
		return nil, &api.Problem{Status: http.StatusNotFound, Title: "no node matches", Code: "selector_empty",
			Detail: fmt.Sprintf("no node has the labels %.80q", req.Selector), Cure: "skerry get nodes -o wide shows labels"}
	}
	return out, nil
}

// distinct drops repeated names: a node that is named twice is commanded once.
func distinct(names []string) []string {
	seen := make(map[string]bool, len(names))
	out := make([]string, 0, len(names))
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

func (a orders) Command(id string) (api.CommandRecord, error) {
	rec, found, err := a.journal.Get(id)
	if err == nil && !found {
		err = fmt.Errorf("command %.63q: %w", id, command.ErrNotFound)
	}
	return rec, orderProblem(err)
}

func (a orders) Commands(p rest.Page) ([]api.CommandRecord, string, error) {
	out, next, err := a.journal.Page(command.Filter{Node: p.Node, Open: p.Open, Limit: p.Limit, After: p.Continue})
	return out, next, orderProblem(err)
}

func (a orders) Cancel(ctx context.Context, id string, who rest.Principal) (api.CommandRecord, error) {
	if rec, found, err := a.journal.Get(id); err == nil && found && !rec.Final && rec.Phase != api.PhaseQueued {
		if err := a.elsewhere(rec.Node); err != nil { // what was never delivered can be cancelled anywhere
			return rec, err
		}
	}
	rec, err := a.journal.Cancel(ctx, id, "rest:"+who.Name)
	return rec, orderProblem(err)
}

func badRequest(field string, err error) error {
	return &api.Problem{Status: http.StatusBadRequest, Title: "bad request", Detail: clip(field + ": " + strings.TrimPrefix(err.Error(), field+" ")), Code: "bad_request",
		Cure: "/openapi.yaml describes every request"}
}

// parseSelector reads a selector as kubectl takes it; empty, or "=" alone, matches every node.
func parseSelector(text string) (registry.Selector, error) {
	if text == "=" {
		text = ""
	}
	sel, err := registry.ParseSelector(text)
	if err != nil {
		return sel, badRequest("selector", err)
	}
	return sel, nil
}
