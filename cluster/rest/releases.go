package rest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skerry-edge/skerry/api"
)

// Releases are what node agents are updated to, as the cluster agent keeps them.
type Releases interface {
	List(ctx context.Context) ([]api.Release, error)
	Import(ctx context.Context, in io.Reader) (api.Release, error)
	// Remove refuses one that a rollout or an assignment needs, unless force is set.
	Remove(ctx context.Context, version string, force bool) error
}

// releases adds what administrators do with releases. Fetching one is not REST: Site.Release does it.
func (s *Server) releases() {
	add(s, route{http.MethodGet, "/v1/releases", "list-releases", "List the releases that are kept here for nodes", "releases", api.RoleViewer, "", ""},
		func(ctx context.Context, _ Principal, _ *none) (*list[api.Release], error) {
			return listOf(s.site.Releases.List(ctx))
		})
	add(s, route{http.MethodDelete, "/v1/releases/{id}", "remove-release", "Remove a release from here; nodes that have it keep it", "releases",
		api.RoleAdmin, "release.remove", "id"},
		func(ctx context.Context, who Principal, in *struct {
			ID    string `path:"id" maxLength:"128" doc:"version"`
			Force bool   `query:"force" doc:"also when a rollout that is not over, or a node that is assigned it, would get it from here"`
		}) (*none, error) {
			return nil, s.did(who, "release.remove", in.ID, s.site.Releases.Remove(ctx, in.ID, in.Force))
		})
	s.stream(route{http.MethodPost, "/v1/releases", "import-release", "Import a release", "releases", api.RoleAdmin, "release.import", ""},
		s.importRelease, &huma.Operation{Description: "The body is an archive of a release with its manifest and signature: tar, plain or with gzip or zstd. " +
			"A release of the same version is replaced. GET /v1/releases/VERSION/FILE then hands the files out, ranges too: to nodes by their certificate, " +
			"and to viewers.", Responses: described("application/json")})
}

func (s *Server) importRelease(w http.ResponseWriter, r *http.Request, who Principal) error {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})  // a large archive over a slow link takes its time
	_ = rc.SetWriteDeadline(time.Time{}) // and is answered after it
	rel, err := s.site.Releases.Import(r.Context(), &patient{r.Body, rc, s.stalled})
	if err = s.did(who, "release.import", rel.Version, err); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(rel)
}
