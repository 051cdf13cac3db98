package rest

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/skerry-edge/skerry/api"
)

type none struct{}

// Part is which part of a list is wanted.
type Part struct {
	Limit    int    `query:"limit" minimum:"1" maximum:"10000" default:"500"`
	Continue string `query:"continue" doc:"continue of the page before, for the one that follows" maxLength:"256"`
}

type byID struct {
	ID string `path:"id" maxLength:"128"`
}

func (s *Server) nodes() {
	add(s, route{http.MethodGet, "/v1/nodes", "list-nodes", "List nodes, by id", "nodes", api.RoleViewer, "", ""},
		func(_ context.Context, _ Principal, in *struct {
			Selector string `query:"selector" doc:"key=value,key2=value2; all must match" maxLength:"1024"`
			Limit    int    `query:"limit" doc:"0: all" minimum:"0" maximum:"10000"`
			Continue string `query:"continue" doc:"continue of the page before, for the one that follows" maxLength:"63"`
		}) (*list[api.Node], error) {
			all, err := s.site.Fleet.Nodes(in.Selector)
			page, next := nodesAfter(all, in.Continue, in.Limit)
			return pageOf(page, next, err)
		})
	add(s, route{http.MethodGet, "/v1/nodes/{id}", "get-node", "Tell all about a node", "nodes", api.RoleViewer, "", ""},
		func(_ context.Context, _ Principal, in *byID) (*one[api.Node], error) {
			return oneOf(s.node(in.ID))
		})
	add(s, route{http.MethodPatch, "/v1/nodes/{id}", "patch-node", "Set labels of a node", "nodes", api.RoleOperator, "node.label", "id"},
		func(ctx context.Context, who Principal, in *struct {
			ID   string `path:"id" maxLength:"128"`
			Body api.NodePatch
		}) (*one[api.Node], error) {
			n, err := s.site.Fleet.Label(ctx, in.ID, in.Body.Labels)
			return oneOf(n, s.did(who, "node.label", in.ID, err))
		})
	add(s, route{http.MethodDelete, "/v1/nodes/{id}", "remove-node", "Decommission a node", "nodes", api.RoleAdmin, "node.remove", "id"},
		func(ctx context.Context, who Principal, in *byID) (*none, error) {
			return nil, s.did(who, "node.remove", in.ID, s.site.Fleet.Remove(ctx, in.ID, who.Name))
		})
}

// nodesAfter is the page of all, which are in the order of their ids, that begins behind one of them.
func nodesAfter(all []api.Node, id string, limit int) (page []api.Node, next string) {
	from, found := slices.BinarySearchFunc(all, id, func(n api.Node, id string) int { return cmp.Compare(n.ID, id) })
	if found {
		from++
	}
	page = all[from:]
	if limit > 0 && len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID
	}
	return page, next
}

// node finds a node, or the problem that there is none.
func (s *Server) node(id string) (api.Node, error) {
	all, err := s.site.Fleet.Nodes("")
	if err != nil {
		return api.Node{}, err
	}
	for i := range all {
		if all[i].ID == id {
			return all[i], nil
		}
	}
	return api.Node{}, &api.Problem{Status: http.StatusNotFound, Title: "no such node", Code: "node_unknown",
		Detail: "no node " + strconv.Quote(id), Cure: "skerry get nodes lists them"}
}

func (s *Server) commands() {
	add(s, route{http.MethodPost, "/v1/commands", "create-command", "Command nodes", "commands", api.RoleOperator, "command.create", ""},
		func(ctx context.Context, who Principal, in *struct{ Body api.CommandRequest }) (*list[api.CommandRecord], error) {
			out, err := s.site.Orders.Order(ctx, in.Body, who)
			return listOf(out, s.did(who, "command.create", ordered(&in.Body, out), err))
		})
	add(s, route{http.MethodGet, "/v1/commands", "list-commands", "List commands: open ones, newest first, then ended ones, last ended first",
		"commands", api.RoleViewer, "", ""},
		func(_ context.Context, who Principal, in *struct {
			Part
			Node string `query:"node" maxLength:"63"`
			Open bool   `query:"open" doc:"only those without a final state"`
		}) (*list[api.CommandRecord], error) {
			all, next, err := s.site.Orders.Commands(Page{Node: in.Node, Open: in.Open, Limit: in.Limit, Continue: in.Continue})
			for i := range all {
				all[i] = shown(all[i], who.Role)
			}
			return pageOf(all, next, err)
		})
	add(s, route{http.MethodGet, "/v1/commands/{id}", "get-command", "Tell all about a command", "commands", api.RoleViewer, "", ""},
		func(_ context.Context, who Principal, in *byID) (*one[api.CommandRecord], error) {
			rec, err := s.site.Orders.Command(in.ID)
			return oneOf(shown(rec, who.Role), err)
		})
	add(s, route{http.MethodPost, "/v1/commands/{id}/cancel", "cancel-command", "Cancel a command", "commands", api.RoleOperator,
		"command.cancel", "id"},
		func(ctx context.Context, who Principal, in *byID) (*one[api.CommandRecord], error) {
			rec, err := s.site.Orders.Cancel(ctx, in.ID, who)
			return oneOf(rec, s.did(who, "command.cancel", in.ID, err))
		})
}

func (s *Server) observation() {
	add(s, route{http.MethodGet, "/v1/status", "get-status", "How the cluster agent is", "site", api.RoleViewer, "", ""},
		func(context.Context, Principal, *none) (*one[api.ClusterStatus], error) {
			return oneOf(s.site.Status(), nil)
		})
	add(s, route{http.MethodGet, "/v1/events", "list-events", "List events, newest first", "site", api.RoleViewer, "", ""},
		func(_ context.Context, _ Principal, in *struct {
			Part
			Node string `query:"node" maxLength:"63"`
		}) (*list[api.EventRecord], error) {
			return pageOf(s.site.Fleet.Events(Page{Node: in.Node, Limit: in.Limit, Continue: in.Continue}))
		})
	add(s, route{http.MethodGet, "/v1/audit", "list-audit", "List who wrote what, newest first", "site", api.RoleAdmin, "", ""},
		func(_ context.Context, _ Principal, in *Part) (*list[api.AuditEntry], error) {
			return pageOf(s.site.Gate.AuditLog(Page{Limit: in.Limit, Continue: in.Continue}))
		})
}
