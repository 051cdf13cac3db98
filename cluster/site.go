package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/access"
	"github.com/skerry-edge/skerry/cluster/enroll"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/cluster/rest"
)

// gate knows who asks over REST.
type gate struct{ *Agent }

func (a gate) Authenticate(r *http.Request) (rest.Principal, error) {
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	p, err := a.principal(r)
	return rest.Principal{Name: p.Name, Role: p.Role, From: from}, err
}

// principal finds out who asks: by bearer token, ours or the identity provider's, or else by client certificate.
func (a gate) principal(r *http.Request) (access.Principal, error) {
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	hasToken := strings.EqualFold(scheme, "Bearer") // RFC 9110, 11.1
	switch {
	case hasToken && a.oidc != nil && !access.Ours(bearer):
		return a.oidc.Authenticate(r.Context(), strings.TrimSpace(bearer))
	case hasToken:
		return a.tokens.Authenticate(strings.TrimSpace(bearer))
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		who, err := a.enroll.Authorize(r.TLS.PeerCertificates[0])
		if err != nil {
			return access.Principal{}, err
		}
		return access.Certified(who, access.ViaREST)
	}
	return a.tokens.Authenticate("") // which says what is missing
}

func (a gate) Audit(who rest.Principal, action, object, result string) {
	if who.Name == "" && !a.strangers.Allow() {
		a.unwritten.Add(1)
		return
	}
	a.record(api.AuditEntry{By: who.Name, Role: who.Role, Via: access.ViaREST, From: who.From, Action: action, Object: object, Result: result})
}

func (a gate) AuditLog(p rest.Page) ([]api.AuditEntry, string, error) {
	before, err := readNumber(p.Continue)
	if err != nil {
		return nil, "", err
	}
	list, err := a.audit.List(access.AuditQuery{Before: before, Limit: p.Limit})
	if len(list) == 0 || len(list) < p.Limit || err != nil {
		return list, "", err
	}
	return list, strconv.FormatUint(list[len(list)-1].ID, 10), nil
}

// readNumber reads where a page of numbered items goes on; empty is 0, which is above all.
func readNumber(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, badRequest("continue", fmt.Errorf("%.40q; wanted what the page before said", text))
	}
	return n, nil
}

// record appends to the audit log. A full disk must not keep an administrator from freeing it, so it only shouts.
func (a *Agent) record(e api.AuditEntry) {
	if _, err := a.audit.Append(e); err != nil {
		a.log.Error("audit entry not kept", agent.KeyBy, e.By, agent.KeyReason, e.Action+" "+e.Object+": "+e.Result, agent.KeyErr, err)
	}
}

// fleet is the REST side of the registry.
type fleet struct{ *Agent }

func (a fleet) Nodes(selector string) ([]api.Node, error) {
	s, err := parseSelector(selector)
	if err != nil {
		return nil, err
	}
	list := a.registry.Nodes(s)
	for i := range list {
		list[i].Rejected = a.rejected(list[i].ID)
	}
	return list, nil
}

func (a fleet) Label(_ context.Context, node string, labels map[string]string) (api.Node, error) {
	if err := a.elsewhere(node); err != nil {
		return api.Node{}, err
	}
	if err := a.registry.SetLabels(node, labels); err != nil {
		return api.Node{}, nodeProblem(node, err)
	}
	if err := a.enroll.Label(node, a.registry.UserLabels(node)); err != nil {
		return api.Node{}, err
	}
	if a.share != nil {
		a.share.admitted(node)
	}
	n, _ := a.registry.Get(node)
	return n, nil
}

// Remove decommissions a node: first it can do nothing more, then nothing is left of it but its past commands and
// events.
func (a fleet) Remove(ctx context.Context, node, by string) error {
	if err := a.elsewhere(node); err != nil {
		return err
	}
	err := a.enroll.Remove(node, by)
	if p, told := errors.AsType[*api.Problem](err); told && p.Code == enroll.CodeNodeUnknown {
		if _, known := a.registry.Get(node); known { // an earlier removal did not come to its end
			err = nil
		}
	}
	if err != nil {
		return err
	}
	a.wire.Kick(node)
	if err := a.clearRetained(ctx, node); err != nil {
		return err
	}
	if err := a.registry.Remove(node, by); err != nil && !errors.Is(err, registry.ErrUnknown) {
		return err
	}
	// After the registry, which no longer lets new ones in: a later device of this id must not be given its orders.
	if err := a.journal.Abandon(node, "node was removed"); err != nil {
		return err
	}
	a.acks.reset(node)
	return a.telemetry.DeleteNode(ctx, node)
}

func (a fleet) Events(p rest.Page) ([]api.EventRecord, string, error) {
	before, err := readNumber(p.Continue)
	if err != nil {
		return nil, "", err
	}
	list, err := a.registry.Events().List(registry.EventFilter{Node: p.Node, Before: before, Limit: p.Limit})
	if len(list) == 0 || len(list) < p.Limit || err != nil {
		return list, "", err
	}
	return list, strconv.FormatUint(list[len(list)-1].ID, 10), nil
}

func nodeProblem(node string, err error) error {
	if refused, ok := errors.AsType[*registry.Refusal](err); ok {
		return badRequest("node "+node, refused.Why)
	}
	if errors.Is(err, registry.ErrUnheard) {
		return &api.Problem{Status: http.StatusServiceUnavailable, Title: "this cluster agent has just taken the node over", Code: "node_unheard",
			Detail: fmt.Sprintf("of node %s it is not known yet what another one told it", node), Cure: "try again in a moment"}
	}
	if errors.Is(err, registry.ErrUnknown) {
		return &api.Problem{Status: http.StatusNotFound, Title: "no such node", Code: "node_unknown", Detail: fmt.Sprintf("no node %q", node),
			Cure: "skerry get nodes lists them"}
	}
	return err
}

// Watch merges the feeds that were asked for.
func (a fleet) Watch(ctx context.Context, q rest.WatchQuery, take func(api.Change) error) error {
	selector, err := parseSelector(q.Selector)
	if err != nil {
		return err
	}
	wants := func(kind string) bool { return len(q.Kinds) == 0 || slices.Contains(q.Kinds, kind) }
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	there, nodes := a.registry.Watch(ctx)
	commands, events := a.journal.Watch(ctx), a.registry.Events().Watch(ctx)
	if q.Initial {
		there = slices.DeleteFunc(there, func(n api.Node) bool { return !selector.Matches(n.Labels) || q.Node != "" && q.Node != n.ID })
		if err := a.initial(q, there, take); err != nil {
			return err
		}
	}
	for {
		var c api.Change
		select {
		case ch, ok := <-nodes.Changes():
			if !ok {
				return nodes.Err()
			}
			if wants("node") && (q.Node == "" || q.Node == ch.Item.ID) && selector.Matches(ch.Item.Labels) {
				c = api.Change{Kind: "node", Type: changeType(ch.Deleted), Node: &ch.Item}
			}
		case ch, ok := <-commands.Changes():
			if !ok {
				return commands.Err()
			}
			if wants("command") && !ch.Deleted && (q.Node == "" || q.Node == ch.Item.Node) && (len(q.IDs) == 0 || slices.Contains(q.IDs, ch.Item.ID)) {
				c = api.Change{Kind: "command", Type: changeType(ch.Deleted), Command: &ch.Item}
			}
		case ch, ok := <-events.Changes():
			if !ok {
				return events.Err()
			}
			if wants("event") && (q.Node == "" || q.Node == ch.Item.Node) {
				c = api.Change{Kind: "event", Type: "added", Event: &ch.Item}
			}
		}
		if c.Kind == "" {
			continue
		}
		if err := take(c); err != nil {
			return err
		}
	}
}

func changeType(deleted bool) string {
	if deleted {
		return "deleted"
	}
	return "modified"
}

// initial hands what is there to take: what changes meanwhile comes again from the feeds.
func (a fleet) initial(q rest.WatchQuery, nodes []api.Node, take func(api.Change) error) error {
	if len(q.Kinds) == 0 || slices.Contains(q.Kinds, "node") {
		for _, n := range nodes {
			if err := take(api.Change{Kind: "node", Type: "added", Node: &n}); err != nil {
				return err
			}
		}
	}
	if len(q.Kinds) == 0 || slices.Contains(q.Kinds, "command") {
		all, err := a.commandsOf(q)
		if err != nil {
			return err
		}
		for i := range all {
			if err := take(api.Change{Kind: "command", Type: "added", Command: &all[i]}); err != nil {
				return err
			}
		}
	}
	return nil
}

// commandsOf lists the commands that a watch is about.
func (a fleet) commandsOf(q rest.WatchQuery) ([]api.CommandRecord, error) {
	if len(q.IDs) == 0 {
		f := openCommands(q.Node)
		f.Open = false
		return a.journal.List(f)
	}
	var out []api.CommandRecord
	for _, id := range q.IDs {
		rec, found, err := a.journal.Get(id)
		if err != nil {
			return nil, err
		}
		if found && (q.Node == "" || q.Node == rec.Node) {
			out = append(out, rec)
		}
	}
	return out, nil
}
