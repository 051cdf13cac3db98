package edge

import (
	"context"

	"github.com/skerry-edge/skerry/edge/runtime/shim"
)

// ShimCommand is the first argument of what skerry-edge is for containers: the supervisor of each, and the process of a
// WebAssembly module. It is not for people.
const ShimCommand = "shim"

// Shim is one of them from its beginning to its end; it returns the exit code.
func Shim(ctx context.Context, args []string) int {
	if module != nil && len(args) == 1 && args[0] == shim.ModuleCommand {
		return module(ctx)
	}
	return shim.Main(ctx, args)
}
