package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// metrics are the store's own.
type metrics struct {
	batches, samples, malformed, reopened  prometheus.Counter
	rejected, damage                       *prometheus.CounterVec
	groupBatches, latency, syncSeconds     prometheus.Histogram
	querySeconds                           prometheus.Histogram
	remoteSent, remoteDropped, remoteRetry *prometheus.CounterVec
	remoteGaps                             *prometheus.CounterVec
	remoteBacklog                          *prometheus.GaugeVec
}

const namespace = "skerry_telemetry"

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, []string{label})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	}
	return &metrics{
		batches:      counter("batches_total", "Batches stored."),
		samples:      counter("samples_total", "Samples stored."),
		malformed:    counter("malformed_batches_total", "Batches that can never be stored."),
		reopened:     counter("reopened_total", "Times the store was opened anew because a write failed."),
		rejected:     vec("rejected_samples_total", "Samples of good batches that were not stored.", "reason"),
		damage:       vec("damage_total", "Damaged files found on opening.", "kind"),
		groupBatches: histogram("commit_batches", "Batches that shared a commit.", prometheus.ExponentialBuckets(1, 4, 6)),
		latency:      histogram("append_seconds", "Time from the call of Append to its return.", prometheus.ExponentialBuckets(0.0001, 4, 9)),
		syncSeconds:  histogram("sync_seconds", "Duration of a sync of the log.", prometheus.ExponentialBuckets(0.0001, 4, 9)),
		querySeconds: histogram("query_seconds", "Duration of PromQL queries.", prometheus.ExponentialBuckets(0.001, 4, 8)),
		remoteSent:   vec("remote_sent_samples_total", "Samples that a remote-write receiver took.", "remote"),
		remoteDropped: vec("remote_dropped_samples_total",
			"Samples that a receiver refused for good, or that its queue had no room to keep.", "remote"),
		remoteRetry: vec("remote_retries_total", "Requests to a receiver that failed and were repeated.", "remote"),
		remoteGaps:  vec("remote_gaps_total", "Segments of the log that were gone or damaged before they were sent.", "remote"),
		remoteBacklog: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "remote_backlog_bytes",
			Help: "Log kept for a receiver."}, []string{"remote"}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.batches, m.samples, m.malformed, m.reopened, m.rejected, m.damage, m.groupBatches,
		m.latency, m.syncSeconds, m.querySeconds, m.remoteSent, m.remoteDropped, m.remoteRetry, m.remoteGaps, m.remoteBacklog}
}

// The gauges that are read from the TSDB.
func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, nil, nil)
}

func (s *Store) gauges() (seriesDesc, walDesc, blocksDesc, queueDesc *prometheus.Desc) {
	return describe("head_series", "Series in memory."), describe("wal_bytes", "Size of the write-ahead logs."),
		describe("block_bytes", "Size of the blocks."), describe("queue_batches", "Batches that wait for the next commit.")
}

// Describe makes Store a prometheus.Collector.
func (s *Store) Describe(out chan<- *prometheus.Desc) {
	for _, c := range s.metrics.all() {
		c.Describe(out)
	}
	a, b, c, d := s.gauges()
	for _, desc := range []*prometheus.Desc{a, b, c, d} {
		out <- desc
	}
}

// Collect makes Store a prometheus.Collector. The gauges of the TSDB are missing while it is closed.
func (s *Store) Collect(out chan<- prometheus.Metric) {
	for _, c := range s.metrics.all() {
		c.Collect(out)
	}
	series, wal, blocks, queue := s.gauges()
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(queue, float64(len(s.queue)))
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.session == nil {
		return
	}
	gauge(series, float64(s.session.db.Head().NumSeries()))
	gauge(wal, float64(logBytes(s.cfg.Dir)))
	var bytes int64
	for _, b := range s.session.db.Blocks() {
		bytes += b.Size()
	}
	gauge(blocks, float64(bytes))
}

// counterValue reads a single counter, through whatever wraps it.
func counterValue(c prometheus.Collector) float64 {
	out := make(chan prometheus.Metric, 1)
	c.Collect(out)
	var m dto.Metric
	if err := (<-out).Write(&m); err != nil {
		return 0 // a counter never fails to be read
	}
	return m.GetCounter().GetValue()
}
