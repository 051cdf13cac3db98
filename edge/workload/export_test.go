package workload

import (
	"context"

	"github.com/skerry-edge/skerry/api"
)

// Ask makes a check that needs no runtime.
func Ask(ctx context.Context, a api.HealthAction) error { return (&Engine{}).ask(ctx, nil, "", a) }
