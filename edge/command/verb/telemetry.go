package verb

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// maxSampleBytes bounds the names that telemetry.now shows, so that its result fits a status.
const maxSampleBytes = 40 << 10

// Read reads the probes: values by series, labels included. NaN is no value.
type Read func(context.Context) (map[string]float64, error)

// TelemetryNow reads the probes at once.
type TelemetryNow struct {
	clock *agent.Clock
	read  Read
}

// NewTelemetryNow returns the verb telemetry.now, which shows what read returns.
func NewTelemetryNow(clock *agent.Clock, read Read) (*TelemetryNow, error) {
	if clock == nil || read == nil {
		return nil, errors.New("verb telemetry.now: wanted a clock and probes to read")
	}
	return &TelemetryNow{clock, read}, nil
}

type telemetryArgs struct {
	Series []string `json:"series"`
}

// Spec declares the verb.
func (*TelemetryNow) Spec() command.Spec {
	return command.Spec{
		Verb: api.Verb{Name: "telemetry.now", Help: "Read the probes now and show the samples.", Role: api.RoleViewer,
			Args: object(map[string]api.Schema{
				"series": {Type: "array", Description: "metric names, whole series, or a beginning and *; all when left out",
					Items: &api.Schema{Type: "string", MaxLength: api.MaxSeriesBytes}},
			})},
		Restart: command.Retry,
	}
}

// Prepare reads the arguments.
func (t *TelemetryNow) Prepare(args map[string]any) (command.Action, error) {
	in, err := command.Decode[telemetryArgs](args)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ *command.Job) (command.Outcome, error) {
		samples, err := t.read(ctx)
		if err != nil {
			return command.Outcome{}, err
		}
		return command.Outcome{Result: t.show(samples, in.Series)}, nil
	}, nil
}

// show puts samples in order: two columns, for an object may have only so many keys. What has no value is left out;
// what has no room is counted.
func (t *TelemetryNow) show(samples map[string]float64, filters []string) map[string]any {
	names := make([]string, 0, len(samples))
	for name, value := range samples {
		if wanted(name, filters) && !math.IsNaN(value) && !math.IsInf(value, 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	used, kept := 0, 0
	values := make([]float64, 0, len(names))
	for _, name := range names {
		// 26 bytes for the longest number and two separators; quotes of labels are escaped
		if used += len(name) + strings.Count(name, `"`) + 28; used > maxSampleBytes {
			break
		}
		values = append(values, samples[name])
		kept++
	}
	at := api.At(t.clock.Now())
	return map[string]any{"at": at, "series": names[:kept], "values": values, "omitted": len(names) - kept}
}

// wanted reports whether series passes filters.
func wanted(series string, filters []string) bool {
	if len(filters) == 0 {
		return true
	}
	name, _, _ := strings.Cut(series, "{")
	return slices.ContainsFunc(filters, func(f string) bool {
		if head, ok := strings.CutSuffix(f, "*"); ok {
			return strings.HasPrefix(series, head)
		}
		return f == series || f == name
	})
}
