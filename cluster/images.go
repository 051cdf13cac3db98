package cluster

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/enroll"
	"github.com/skerry-edge/skerry/cluster/image"
	"github.com/skerry-edge/skerry/mqtt"
)

// openImages opens the cache of images; nil when there is to be none.
func (a *Agent) openImages(ctx context.Context, db *bbolt.DB) (*image.Cache, error) {
	c := a.cfg.Images
	if !c.Enabled {
		return nil, nil //nolint:nilnil // none is an answer
	}
	cfg := image.Config{DB: db, Dir: cmp.Or(c.Dir, filepath.Join(a.cfg.Dir, "images")), MaxBytes: int64(c.MaxBytes), OnlyListed: c.OnlyListed,
		CredentialsFile: c.CredentialsFile, Fetches: c.Fetches, Pulls: c.Pulls, Wanted: a.registry.Images, Log: a.log, Now: a.clock.Now}
	for _, r := range c.Registries {
		cfg.Upstreams = append(cfg.Upstreams, image.Upstream{Registry: r.Name, Mirrors: r.Mirrors, Insecure: r.Insecure, CAFile: r.CAFile})
	}
	return image.Open(ctx, cfg)
}

// errNoImages is the answer when images are not kept here.
var errNoImages = &api.Problem{Status: http.StatusNotFound, Title: "no images", Code: "images_off", Detail: "this cluster agent keeps no images",
	Cure: "set images.enabled: true in its configuration"}

// imageStore is the administrators' side of the cache.
type imageStore struct{ *Agent }

func (a imageStore) List(ctx context.Context) ([]api.Image, error) {
	if a.images == nil {
		return nil, errNoImages
	}
	return a.images.List(ctx)
}

func (a imageStore) Import(ctx context.Context, in io.Reader, name string) ([]api.Image, error) {
	if a.images == nil {
		return nil, errNoImages
	}
	return a.images.Import(ctx, in, name)
}

func (a imageStore) Remove(ctx context.Context, name string) error {
	if a.images == nil {
		return errNoImages
	}
	return a.images.Remove(ctx, name)
}

// servePulls hands out images: to nodes by their certificate, and to whoever may look at the site. Programs that know
// registries send a user and a password: an access token as the password serves, whatever the user.
func (a *Agent) servePulls(w http.ResponseWriter, r *http.Request) {
	if a.images == nil {
		image.WriteRefusal(w, &image.Refusal{Status: http.StatusNotFound, Code: "UNSUPPORTED", Message: errNoImages.Detail + "; " + errNoImages.Cure})
		return
	}
	if who, shown := enroll.IdentityFrom(r.Context()); shown && who.Kind == mqtt.NodeIdentity {
		a.images.ServeHTTP(w, r)
		return
	}
	asked := r
	if _, password, ok := r.BasicAuth(); ok {
		asked = r.Clone(r.Context())
		asked.Header.Set("Authorization", "Bearer "+password)
	}
	who, err := gate{a}.Authenticate(asked)
	if err == nil && !who.Role.Includes(api.RoleViewer) {
		err = errors.New("takes a node's certificate, or the role viewer")
	}
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Basic realm="skerry"`) // what registries' clients understand
		refusal := &image.Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: err.Error()}
		if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusForbidden {
			refusal = &image.Refusal{Status: http.StatusForbidden, Code: "DENIED", Message: err.Error()}
		}
		image.WriteRefusal(w, refusal)
		return
	}
	a.images.ServeHTTP(w, r)
}
