//go:build !lite

package edge

import (
	"cmp"
	"context"
	"os"
	"path/filepath"

	"github.com/skerry-edge/skerry/edge/runtime/containerd"
)

// withContainerd makes the runtime of a containerd that is on this node.
func (m *runtimeMaker) withContainerd(ctx context.Context, shared *images) (ownRuntime, error) {
	socket, dir := containerd.Find(m.cfg.Containerd), filepath.Join(m.cfg.Dir, containerd.Kind)
	if socket == "" && (m.cfg.Containerd != "" || holds(dir)) { // it may be slower to start than this agent
		socket = cmp.Or(m.cfg.Containerd, containerd.Usual)
	}
	if socket == "" {
		return nil, &errAbsent{"no containerd listens here"}
	}
	return containerd.New(ctx, containerd.Config{Socket: socket, Dir: dir, Images: shared, Shim: m.shim, Cgroup: m.cgroup, Log: m.log})
}

// holds reports whether a folder has something in it.
func holds(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}
