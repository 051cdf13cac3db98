package workload

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// Node is what a node gives to workloads.
type Node struct {
	Runtimes   []string // names, the preferred one first
	HostPaths  []string // absolute, clean paths that volumes may show, with what is beneath
	Privileged bool     // containers may be privileged
	Off        bool     // nothing is run
}

// hostTypes are those of Kubernetes.
var hostTypes = []string{"", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"}

// Admit says which of the node's runtimes runs w, or why none does.
func Admit(w *api.Workload, n Node) (runtime string, why *Refusal) {
	switch {
	case n.Off:
		return "", &Refusal{"Disabled", "this node runs no workloads (workloads.enabled)"}
	case w.Runtime != "" && !slices.Contains(n.Runtimes, w.Runtime):
		return "", &Refusal{"NoRuntime", fmt.Sprintf("this node has no runtime %s; it has %s", w.Runtime, listed(n.Runtimes))}
	case w.Runtime == "" && len(n.Runtimes) == 0:
		return "", &Refusal{"NoRuntime", "this node has no runtime"}
	case w.Runtime == "":
		runtime = n.Runtimes[0]
	default:
		runtime = w.Runtime
	}
	for _, v := range w.Volumes {
		if v.Host == nil {
			continue
		}
		if !slices.Contains(hostTypes, v.Host.Type) {
			return "", &Refusal{"UnknownVolumeType", fmt.Sprintf("volume %s: type %.40q: wanted one of %s", v.Name, v.Host.Type, strings.Join(hostTypes[1:], ", "))}
		}
		if !allowed(v.Host.Path, n.HostPaths) {
			return "", &Refusal{"HostPathNotAllowed", fmt.Sprintf("volume %s: this node does not give %.200q (workloads.host_paths: %s)", v.Name, v.Host.Path, listed(n.HostPaths))}
		}
	}
	for _, c := range slices.Concat(w.Init, w.Containers) {
		if c.Security != nil && c.Security.Privileged && !n.Privileged {
			return "", &Refusal{"PrivilegedNotAllowed", fmt.Sprintf("container %s: this node runs no privileged container (workloads.privileged)", c.Name)}
		}
		if why := known(&c); why != nil {
			return "", why
		}
	}
	return runtime, nil
}

// known refuses what this agent would otherwise do otherwise than it is meant.
func known(c *api.Container) *Refusal {
	for _, p := range c.Ports {
		if !slices.Contains([]string{"", "TCP", "UDP", "SCTP"}, p.Protocol) {
			return &Refusal{"UnknownProtocol", fmt.Sprintf("container %s: port %d: protocol %.40q: wanted TCP, UDP or SCTP", c.Name, p.Number, p.Protocol)}
		}
	}
	actions := []*api.HealthAction{c.PreStop, c.PostStart}
	for _, h := range []*api.HealthCheck{c.Startup, c.Liveness, c.Readiness} {
		if h != nil {
			actions = append(actions, &h.HealthAction)
		}
	}
	for _, a := range actions {
		if a == nil || a.HTTP == nil {
			continue
		}
		if !slices.Contains([]string{"", "http", "https"}, a.HTTP.Scheme) {
			return &Refusal{"UnknownScheme", fmt.Sprintf("container %s: scheme %.40q: wanted http or https", c.Name, a.HTTP.Scheme)}
		}
		for _, h := range a.HTTP.Headers {
			if name, _, ok := strings.Cut(h, ":"); !ok || name == "" || strings.ContainsAny(h, "\r\n") {
				return &Refusal{"UnknownHeader", fmt.Sprintf("container %s: header %.80q: wanted \"Name: value\" in one line", c.Name, h)}
			}
		}
	}
	return nil
}

func listed(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// allowed reports whether path is one of roots or beneath one.
func allowed(path string, roots []string) bool {
	path = filepath.Clean(path)
	return slices.ContainsFunc(roots, func(root string) bool {
		rel, err := filepath.Rel(root, path)
		return err == nil && filepath.IsLocal(rel)
	})
}
