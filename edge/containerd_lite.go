//go:build lite

package edge

import "context"

// withContainerd has none: lite does not know containerd.
func (m *runtimeMaker) withContainerd(context.Context, *images) (ownRuntime, error) {
	return nil, &errAbsent{"it is not built in"}
}
