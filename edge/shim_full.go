//go:build !lite

package edge

import "github.com/skerry-edge/skerry/edge/runtime/wasm"

// module runs WebAssembly.
var module = wasm.Run
