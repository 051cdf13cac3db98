//go:build lite

package edge

import "context"

// module is nil: lite runs no WebAssembly.
var module func(context.Context) int
