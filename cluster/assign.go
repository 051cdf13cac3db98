package cluster

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/mirror"
)

// offered checks that nodes can get a version: from here, or from url. It returns the version as releases write it, and the release that is
// kept here; nil: it is for url to have it.
func (a *Agent) offered(version, url string) (string, *api.Release, error) {
	v, err := release.ParseVersion(version)
	if err != nil {
		return "", nil, badRequest("version", err)
	}
	if url != "" {
		return v.String(), nil, nil
	}
	r, err := a.mirrored.Get(v.String())
	if err != nil {
		detail := fmt.Sprintf("release %s is not kept here", v)
		if !errors.Is(err, mirror.ErrUnknown) {
			detail = "it is damaged: " + err.Error()
		}
		return "", nil, &api.Problem{Status: http.StatusNotFound, Title: "no such release", Code: "release_unknown", Detail: clip(detail),
			Cure: "skerry release import DIR|BUNDLE, or give a url"}
	}
	return v.String(), &r, nil
}

// Assign states in a node's desired document which version its agent should be (docs/adr/0024). It follows when it is there.
func (a rollouts) Assign(node string, req api.AgentRequest) (api.Node, error) {
	version, kept, err := a.offered(req.Version, req.URL)
	if err != nil {
		return api.Node{}, err
	}
	want := api.AgentWant{Version: version, URL: req.URL, Force: req.Force, Window: req.Window, Try: 1}
	if err := want.Validate(); err != nil {
		return api.Node{}, badRequest("agent", err)
	}
	if _, err := want.Opens(a.clock.Now()); err != nil {
		return api.Node{}, badRequest("window", err)
	}
	if err := a.fits(kept, []string{node}); err != nil {
		return api.Node{}, err
	}
	a.versions.Lock()
	defer a.versions.Unlock()
	for _, r := range a.rollout.List() {
		if r.State.Final() || r.Version == version {
			continue
		}
		for _, m := range r.Members {
			if m.Node == node {
				return api.Node{}, &api.Problem{Status: http.StatusConflict, Title: "conflict", Code: "rollout_conflict",
					Detail: fmt.Sprintf("node %s is in rollout %s to %s, which is %s", node, r.Name, r.Version, r.State), Cure: "skerry rollout abort " + r.Name}
			}
		}
	}
	return a.assign(node, func(d *api.Desired) error {
		next := want
		if was := d.Agent; was != nil {
			if next.Try = was.Try; next == *was && !req.Retry {
				return nil
			}
		}
		next.Try = 0 // the next above all before
		d.Agent = &next
		return nil
	})
}

// Unassign takes it back: the agent stays what it is.
func (a rollouts) Unassign(node string) (api.Node, error) {
	return a.assign(node, func(d *api.Desired) error { d.Agent = nil; return nil })
}

func (a rollouts) assign(node string, change func(*api.Desired) error) (api.Node, error) {
	if err := a.elsewhere(node); err != nil {
		return api.Node{}, err
	}
	if err := a.setDesired(node, change); err != nil {
		return api.Node{}, nodeProblem(node, err)
	}
	n, _ := a.registry.Get(node)
	return n, nil
}
