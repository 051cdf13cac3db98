//go:build lite

package edge

import "github.com/skerry-edge/skerry/edge/runtime/shim"

// module is nil: lite runs no WebAssembly.
var module shim.Module
