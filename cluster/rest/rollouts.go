package rest

import (
	"context"
	"net/http"

	"github.com/skerry-edge/skerry/api"
)

// Rollouts bring a fleet to a release.
type Rollouts interface {
	List() []api.Rollout // without their nodes
	Get(name string) (api.Rollout, error)
	Create(spec api.RolloutSpec, who Principal) (api.Rollout, error)
	// Act is pause, resume or abort.
	Act(ctx context.Context, name, action string, who Principal) (api.Rollout, error)
	// Assign states which version a node's agent should be, Unassign takes that back.
	Assign(node string, req api.AgentRequest) (api.Node, error)
	Unassign(node string) (api.Node, error)
}

type rolloutName struct {
	ID string `path:"id" maxLength:"63" doc:"name of the rollout"`
}

// rollouts adds what operators do with rollouts, and with the version of one node.
func (s *Server) rollouts() {
	add(s, route{http.MethodPut, "/v1/nodes/{id}/agent", "assign-version", "State which version the agent of a node should be", "rollouts", api.RoleAdmin, "node.assign", "id"},
		func(_ context.Context, who Principal, in *struct {
			ID   string `path:"id" maxLength:"128"`
			Body api.AgentRequest
		}) (*one[api.Node], error) {
			n, err := s.site.Rollouts.Assign(in.ID, in.Body)
			return oneOf(n, s.did(who, "node.assign", in.ID+" to "+in.Body.Version, err))
		})
	add(s, route{http.MethodDelete, "/v1/nodes/{id}/agent", "unassign-version", "State no version any more; the agent stays what it is", "rollouts", api.RoleAdmin,
		"node.unassign", "id"},
		func(_ context.Context, who Principal, in *byID) (*one[api.Node], error) {
			n, err := s.site.Rollouts.Unassign(in.ID)
			return oneOf(n, s.did(who, "node.unassign", in.ID, err))
		})
	add(s, route{http.MethodGet, "/v1/rollouts", "list-rollouts", "List rollouts, the newest first, without their nodes", "rollouts", api.RoleViewer, "", ""},
		func(context.Context, Principal, *none) (*list[api.Rollout], error) {
			return listOf(s.site.Rollouts.List(), nil)
		})
	add(s, route{http.MethodGet, "/v1/rollouts/{id}", "get-rollout", "Show a rollout", "rollouts", api.RoleViewer, "", ""},
		func(_ context.Context, _ Principal, in *rolloutName) (*one[api.Rollout], error) {
			return oneOf(s.site.Rollouts.Get(in.ID))
		})
	add(s, route{http.MethodPost, "/v1/rollouts", "create-rollout", "Bring nodes to a release, batch by batch", "rollouts", api.RoleAdmin, "rollout.create", ""},
		func(_ context.Context, who Principal, in *struct{ Body api.RolloutSpec }) (*one[api.Rollout], error) {
			r, err := s.site.Rollouts.Create(in.Body, who)
			return oneOf(r, s.did(who, "rollout.create", in.Body.Name+" to "+in.Body.Version, err))
		})
	for action, summary := range map[string]string{"pause": "Begin no more updates of a rollout", "resume": "Go on with a paused rollout",
		"abort": "End a rollout; updates that were begun are cancelled where that is possible"} {
		add(s, route{http.MethodPost, "/v1/rollouts/{id}/" + action, action + "-rollout", summary, "rollouts", api.RoleAdmin, "rollout." + action, "id"},
			func(ctx context.Context, who Principal, in *rolloutName) (*one[api.Rollout], error) {
				r, err := s.site.Rollouts.Act(ctx, in.ID, action, who)
				return oneOf(r, s.did(who, "rollout."+action, in.ID, err))
			})
	}
}
