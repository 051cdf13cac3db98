package cluster

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/registry"
)

// named is how many nodes a refusal names.
const named = 10

// fits checks that a release which nodes are to get from here, nil when from elsewhere, has a node agent for each of them. Of a node that
// was never there nothing is known, nor of any whether its agent is lite or full.
func (a *Agent) fits(r *api.Release, nodes []string) error {
	if r == nil {
		return nil
	}
	var without []string
	for _, id := range nodes {
		n, ok := a.registry.Get(id)
		if ok && n.Birth != nil && !hasTarget(r.Targets, n.Birth.Host.Arch) && strings.TrimPrefix(n.Birth.Version, "v") != r.Version {
			without = append(without, id+" ("+n.Birth.Host.Arch+")")
		}
	}
	if len(without) == 0 {
		return nil
	}
	return &api.Problem{Status: http.StatusConflict, Title: "conflict", Code: "release_target",
		Detail: clip(fmt.Sprintf("release %s is kept here without a node agent for %s", r.Version, some(without))),
		Cure:   "skerry release import adds those for other machines to a release; or leave these nodes out"}
}

// hasTarget reports whether one of targets, such as linux-armv6/lite, may be that of an agent on a machine such as armv7.
func hasTarget(targets []string, machine string) bool {
	arch, level, arm := armOf(machine)
	for _, t := range targets {
		_, t, _ = strings.Cut(t, "-")
		t, _, _ = strings.Cut(t, "/")
		a, l, _ := armOf(t)
		if a == arch && (!arm || l <= level) {
			return true
		}
	}
	return machine == ""
}

// armOf tells 32-bit ARM and its level from other machines. A level that is not told is the greatest.
func armOf(machine string) (arch, level string, arm bool) {
	if level, arm = strings.CutPrefix(machine, "armv"); arm {
		return "arm", level, true
	}
	return machine, "9", machine == "arm"
}

// some names the first of many.
func some(list []string) string {
	if n := len(list) - named; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:named], ", "), n)
	}
	return strings.Join(list, ", ")
}

// used checks that no rollout which is not over, and no node which is assigned it, is to get a version from here.
func (a *Agent) used(version string) error {
	version = strings.TrimPrefix(version, "v")
	var by []string
	for _, r := range a.rollout.List() {
		if !r.State.Final() && r.Version == version && r.URL == "" {
			by = append(by, fmt.Sprintf("rollout %s, which is %s", r.Name, r.State))
		}
	}
	for _, n := range a.registry.Nodes(registry.Selector{}) {
		if w := n.Wanted; w != nil && w.Version == version && w.URL == "" {
			by = append(by, "node "+n.ID+", which is assigned it")
		}
	}
	if len(by) == 0 {
		return nil
	}
	return &api.Problem{Status: http.StatusConflict, Title: "conflict", Code: "release_used", Detail: clip(fmt.Sprintf("release %s is used by %s", version, some(by))),
		Cure: "skerry rollout abort, skerry release unassign; or --force"}
}
