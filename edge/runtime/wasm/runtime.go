package wasm

import (
	"context"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/process"
)

// New is process.New for modules.
func New(ctx context.Context, cfg process.Config) (*process.Runtime, error) {
	cfg.Kind = bundle.KindWasm
	return process.New(ctx, cfg)
}
