package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skerry-edge/skerry/api"
)

// images adds what administrators do with images. Pulling is not REST: Site.Pulls does it.
func (s *Server) images() {
	add(s, route{http.MethodGet, "/v1/images", "list-images", "List the images that are kept here", "images", api.RoleViewer, "", ""},
		func(ctx context.Context, _ Principal, _ *none) (*list[api.Image], error) {
			return listOf(s.site.Images.List(ctx))
		})
	add(s, route{http.MethodDelete, "/v1/images/{id}", "remove-image", "Remove an image from here; nodes that have it keep it", "images",
		api.RoleAdmin, "image.remove", "id"},
		func(ctx context.Context, who Principal, in *struct {
			ID string `path:"id" maxLength:"512" doc:"name, with slashes as %2F, or sha256:… digest"`
		}) (*none, error) {
			return nil, s.did(who, "image.remove", in.ID, s.site.Images.Remove(ctx, in.ID))
		})
	s.stream(route{http.MethodPost, "/v1/images", "import-images", "Import the images of an archive", "images", api.RoleAdmin, "image.import", ""},
		s.importImages, &huma.Operation{Description: "The body is an archive as docker save or skopeo (docker-archive, oci-archive) writes it, " +
			"plain or with gzip. Query: name, for an archive with one image. The answer lists what was imported.", Responses: described("application/json")})
}

func (s *Server) importImages(w http.ResponseWriter, r *http.Request, who Principal) error {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})  // a large archive over a slow link takes its time
	_ = rc.SetWriteDeadline(time.Time{}) // and is answered after it
	name := r.URL.Query().Get("name")
	items, err := s.site.Images.Import(r.Context(), &patient{r.Body, rc, s.stalled}, name)
	object := name
	for _, img := range items {
		object += " " + img.Name + "@" + img.Digest
	}
	if err = s.did(who, "image.import", object, err); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(api.List[api.Image]{Items: items})
}
