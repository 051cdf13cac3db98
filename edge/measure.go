package edge

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/outbox"
	"github.com/skerry-edge/skerry/edge/probe"
	"github.com/skerry-edge/skerry/mqtt"
)

// openOutbox opens the outbox with an epoch of its own for what is put before the first session.
func (a *Agent) openOutbox(cfg configs.Edge) error {
	epoch, err := a.store.NextEpoch()
	if err != nil {
		return err
	}
	a.epoch.Store(epoch)
	o := cfg.Outbox
	a.outbox, err = outbox.Open(outbox.Config{Volatile: a.readOnly != "", Dir: cfg.Dir, RuntimeDir: cfg.RuntimeDir, Epoch: epoch, Boot: a.boot, MaxBytes: int64(o.MaxBytes),
		MaxAge: o.MaxAge, HotBytes: int64(o.MemoryBytes), SpillAfter: o.SpillAfter, ReplayBytesPerSecond: int64(o.ReplayBytesPerSecond),
		Clock: a.clock, Timed: a.clock.Told, Sender: a, Log: a.log})
	return err
}

func (a *Agent) closeOutbox() error {
	err := a.outbox.Close()
	if err != nil && a.readOnly != "" { // as was said at the start
		a.log.Warn("telemetry is lost", agent.KeyErr, err)
		return nil
	}
	return err
}

// applyOutbox puts a changed outbox section in force.
func (a *Agent) applyOutbox(o configs.Outbox) error {
	return a.outbox.Limit(outbox.Limits{MaxBytes: int64(o.MaxBytes), MaxAge: o.MaxAge, HotBytes: int64(o.MemoryBytes),
		SpillAfter: o.SpillAfter, ReplayBytesPerSecond: int64(o.ReplayBytesPerSecond)})
}

// Send is the outbox's way out: in the order of the calls, done once for each.
func (a *Agent) Send(ctx context.Context, kind mqtt.Kind, v any, done func(error)) {
	payload, err := a.codec.Encode(mqtt.Encoding(a.encoding.Load()), v)
	if err != nil {
		done(fmt.Errorf("%w: %w", err, outbox.ErrUnsendable))
		return
	}
	link, _ := a.line.current()
	if err := link.PublishThen(ctx, a.topic(kind, ""), payload, done); err != nil {
		done(err)
	}
}

// batching turns scrapes into batches; the configuration may replace its batcher.
type batching struct {
	mu      sync.Mutex
	batcher *probe.Batcher

	unkept   int // batches since unkeptAt that were not kept
	unkeptAt time.Time
}

func (a *Agent) buildProbes(cfg configs.Edge) error {
	var err error
	if a.probes, err = probe.New(probeConfig(cfg.Telemetry), a.clock, a.log); err != nil {
		return err
	}
	a.batching = &batching{}
	if err := a.rebatch(cfg); err != nil {
		return err
	}
	a.probes.Sink = a.collect
	a.probes.Self = a.measureSelf
	a.probes.OnChange = func(name string, err error) {
		a.oweBirth()
		if err != nil {
			a.event(api.ClassAlarm, "probe.failed", name, clip(err.Error()))
			return
		}
		a.event(api.ClassEvent, "probe.recovered", name, "works again")
	}
	return nil
}

// clip fits a text into an event.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), api.MaxReasonBytes)], "") }

func (a *Agent) rebatch(cfg configs.Edge) error {
	b, err := probe.NewBatcher(probe.BatchConfig{Boot: a.boot, Rows: cfg.Telemetry.BatchRows})
	if err != nil {
		return err
	}
	a.batching.mu.Lock()
	defer a.batching.mu.Unlock()
	var left []api.Batch
	if a.batching.batcher != nil {
		left = a.batching.batcher.Flush()
	}
	a.batching.batcher = b
	a.keepBatches(left)
	return nil
}

// keepOutbox runs the outbox.
func (a *Agent) keepOutbox(ctx context.Context) (err error) {
	agent.Roomy(func() { err = a.outbox.Run(ctx) })
	return err
}

// measureOn runs the probes; what they gathered for a batch that is not full goes into the outbox at the stop.
func (a *Agent) measureOn(ctx context.Context) (err error) {
	agent.Roomy(func() { err = a.probes.Run(ctx) })
	a.batching.mu.Lock()
	defer a.batching.mu.Unlock()
	a.keepBatches(a.batching.batcher.Flush())
	return err
}

// collect takes a scrape.
func (a *Agent) collect(s probe.Scrape) {
	a.batching.mu.Lock()
	defer a.batching.mu.Unlock()
	a.keepBatches(a.batching.batcher.Add(s))
}

func (a *Agent) keepBatches(list []api.Batch) {
	for i := range list {
		err, b := a.outbox.PutBatch(&list[i]), a.batching
		if err == nil {
			continue
		}
		b.unkept++ // a full disk refuses each one
		if now := time.Now(); now.Sub(b.unkeptAt) >= time.Minute {
			a.log.Error("batch not kept", agent.KeyCount, b.unkept, agent.KeyErr, err)
			b.unkept, b.unkeptAt = 0, now
		}
	}
}

// applyTelemetry puts a changed telemetry section in force.
func (a *Agent) applyTelemetry(cfg configs.Edge) error {
	if err := a.probes.Apply(probeConfig(cfg.Telemetry)); err != nil {
		return err
	}
	return a.rebatch(cfg)
}

func probeConfig(t configs.Telemetry) probe.Config {
	out := probe.Config{Proc: t.Proc, Sys: t.Sys, Interval: t.Interval, Disabled: t.Disabled, MaxSeries: t.MaxSeries}
	for _, u := range t.User {
		out.User = append(out.User, probe.UserProbe{Name: u.Name, Kind: u.Kind, Argv: u.Argv, Path: u.Path, URL: u.URL, Metric: u.Metric,
			Scale: u.Scale, Interval: u.Interval, Timeout: u.Timeout, Allow: u.Allow})
	}
	return out
}

// measureSelf is what the agent measures of itself, beside what probe self does: its outbox, link and commands.
func (a *Agent) measureSelf() []probe.Sample {
	backlog, stats := a.outbox.Backlog(), a.outbox.Stats()
	link, commands := a.line.status(), a.engine.Counts()
	d := backlog.Dropped
	samples := []probe.Sample{
		{Series: "skerry_edge_scrapes_total", Value: float64(a.scrapes.Add(1))}, // without a gap, unless samples were dropped
		{Series: "skerry_edge_backlog_bytes", Value: float64(backlog.Bytes)},
		{Series: "skerry_edge_backlog_batches", Value: float64(backlog.Batches)},
		{Series: "skerry_edge_dropped_samples_total", Value: float64(d.Samples)},
		{Series: "skerry_edge_downsampled_samples_total", Value: float64(d.Downsampled)},
		{Series: "skerry_edge_dropped_events_total", Value: float64(d.Events + d.Alarms)},
		{Series: "skerry_edge_flash_written_bytes_total", Value: float64(stats.FlashBytes)},
		{Series: "skerry_edge_link_received_bytes_total", Value: float64(link.BytesIn)},
		{Series: "skerry_edge_link_sent_bytes_total", Value: float64(link.BytesOut)},
		{Series: "skerry_edge_link_reconnects_total", Value: float64(link.Reconnects)},
		{Series: "skerry_edge_commands_open", Value: float64(commands.Open)},
	}
	if d.Batches+d.Alarms > 0 { // names cost bytes: most nodes never drop anything
		samples = append(samples, probe.Sample{Series: "skerry_edge_dropped_batches_total", Value: float64(d.Batches)},
			probe.Sample{Series: "skerry_edge_dropped_alarms_total", Value: float64(d.Alarms)})
	}
	if n := a.probes.Voids(); n > 0 {
		samples = append(samples, probe.Sample{Series: "skerry_edge_samples_without_value_total", Value: float64(n)})
	}
	return samples
}
