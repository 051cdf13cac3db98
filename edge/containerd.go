//go:build !lite

package edge

import (
	"context"
	"path/filepath"

	"github.com/skerry-edge/skerry/edge/runtime/containerd"
)

// withContainerd makes the runtime of a containerd that is on this node.
func (m *runtimeMaker) withContainerd(ctx context.Context, shared *images) (ownRuntime, error) {
	socket := containerd.Find(m.cfg.Containerd)
	if socket == "" {
		return nil, &errAbsent{"no containerd listens here"}
	}
	return containerd.New(ctx, containerd.Config{Socket: socket, Dir: filepath.Join(m.cfg.Dir, containerd.Kind), Images: shared, Shim: m.shim, Cgroup: m.cgroup, Log: m.log})
}
