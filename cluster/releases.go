package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/enroll"
	"github.com/skerry-edge/skerry/cluster/mirror"
	"github.com/skerry-edge/skerry/mqtt"
)

// openMirror makes the mirror of releases. It trusts what this build trusts; nodes check for themselves.
func (a *Agent) openMirror() (*mirror.Mirror, error) {
	var keys []release.Key
	for _, text := range agent.ReleaseKeys() {
		key, err := release.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("built-in release key: %w", err)
		}
		keys = append(keys, key)
	}
	return mirror.New(filepath.Join(a.cfg.Dir, "releases"), keys), nil
}

// releaseStore is the administrators' side of the mirror.
type releaseStore struct{ *Agent }

func (a releaseStore) List(context.Context) ([]api.Release, error) { return a.mirrored.List() }

func (a releaseStore) Import(ctx context.Context, in io.Reader) (api.Release, error) {
	r, err := a.mirrored.Import(ctx, in)
	return r, releaseProblem(err)
}

func (a releaseStore) Remove(_ context.Context, version string, force bool) error {
	a.versions.Lock()
	defer a.versions.Unlock()
	if err := a.used(version); err != nil && !force {
		return err
	}
	return releaseProblem(a.mirrored.Remove(version))
}

func releaseProblem(err error) error {
	switch {
	case errors.Is(err, mirror.ErrUnknown):
		return &api.Problem{Status: http.StatusNotFound, Title: "no such release", Code: "release_unknown", Detail: err.Error(), Cure: "skerry release list tells which there are"}
	case errors.Is(err, mirror.ErrInvalid):
		return &api.Problem{Status: http.StatusBadRequest, Title: "not a release", Code: "release_invalid", Detail: clip(err.Error()),
			Cure: "import a directory of a release, or its bundle"}
	case errors.Is(err, mirror.ErrNoRoom):
		return &api.Problem{Status: http.StatusInsufficientStorage, Title: "no room for the release", Code: "release_no_room", Detail: err.Error(),
			Cure: "skerry release remove VERSION, or import only the targets that the site has"}
	}
	return err
}

// serveRelease hands out a file of a release: to nodes by their certificate, and to whoever may look at the site.
func (a *Agent) serveRelease(w http.ResponseWriter, r *http.Request) {
	if who, shown := enroll.IdentityFrom(r.Context()); !shown || who.Kind != mqtt.NodeIdentity {
		who, err := gate{a}.Authenticate(r)
		if err != nil || !who.Role.Includes(api.RoleViewer) {
			http.Error(w, "takes a node's certificate, or the role viewer", http.StatusUnauthorized)
			return
		}
	}
	a.mirrored.Serve(w, r, r.PathValue("version"), r.PathValue("file"))
}
