//go:build !lite

package edge

import (
	"github.com/skerry-edge/skerry/edge/runtime/wasm"
)

// module is the process of a WebAssembly module.
var module = wasm.Main
