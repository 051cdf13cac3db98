package edge

import (
	"context"

	"github.com/skerry-edge/skerry/edge/runtime/shim"
)

// ShimCommand is the first argument of a supervisor, which skerry-edge is to each container that it starts. It is not for people.
const ShimCommand = "shim"

// Shim is a supervisor from its beginning to its end; it returns the exit code.
func Shim(ctx context.Context, args []string) int { return shim.Main(ctx, args, nil) }
