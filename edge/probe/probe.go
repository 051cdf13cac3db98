package probe

import (
	"context"
	"errors"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// ErrNoData is returned by a probe that has nothing to say on this machine, such as pressure on a kernel without PSI.
// It is not a failure.
var ErrNoData = errors.New("no data on this machine")

// Sample is one value of one series, written as Prometheus does: name{label="value"}.
type Sample struct {
	Series string
	Value  float64
}

// Probe reads one source of telemetry. Read is never called concurrently with itself; what it emitted before it
// failed counts. A probe must return soon after ctx ends unless the kernel holds it.
type Probe interface {
	Name() string
	Read(ctx context.Context, emit func(series string, value float64)) error
}

// Scrape is what all probes said at one moment. Mono is the time since boot (agent.Clock.Boot) and At the wall clock
// when the scrape began, as far as Quality says it can be believed.
type Scrape struct {
	Mono    time.Duration
	At      time.Time
	Quality api.TimeQuality
	Samples []Sample
}
