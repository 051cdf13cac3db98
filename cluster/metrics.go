package cluster

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/skerry-edge/skerry/cluster/image"
)

// metrics serves /metrics: the agent's own, the telemetry store's, and those of the Go runtime.
func (a *Agent) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), a.telemetry, &meter{a})
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// meter reads the agent's numbers when it is scraped.
type meter struct{ agent *Agent }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("skerry_cluster_"+name, help, labels, nil)
}

// Describe leaves the list to Collect: the metrics are few and always the same.
func (m *meter) Describe(chan<- *prometheus.Desc) {}

// Collect reads.
func (m *meter) Collect(out chan<- prometheus.Metric) {
	a := m.agent
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	nodes := desc("nodes", "Nodes by presence.", "presence")
	for presence, n := range a.registry.Stats().ByPresence {
		gauge(nodes, float64(n), string(presence))
	}
	j := a.journal.Stats()
	gauge(desc("commands_open", "Commands without a final state."), float64(j.Open))
	ended := desc("commands_ended_total", "Commands that ended since the start, by their final phase.", "phase")
	for phase, n := range map[string]uint64{"succeeded": j.Succeeded, "failed": j.Failed, "rejected": j.Rejected, "cancelled": j.Cancelled,
		"timed_out": j.TimedOut, "expired": j.Expired} {
		count(ended, float64(n), phase)
	}
	count(desc("command_deliveries_total", "Commands handed to the broker."), float64(j.Deliveries))
	count(desc("command_redeliveries_total", "Of these, again in one session."), float64(j.Redeliveries))
	count(desc("telemetry_put_off_total", "Batches that were not stored and that nodes keep, for want of disk space for one."),
		float64(a.deferral.batches.Load()))
	outcomes := desc("enrollments_total", "Enrolments and renewals, by outcome.", "outcome")
	for outcome, n := range a.enroll.Counts() {
		count(outcomes, float64(n), outcome)
	}
	count(desc("audit_unwritten_total", "Refusals, of callers without credentials and of forged publishes, that were too many for the audit log."), float64(a.unwritten.Load()))
	if d, err := a.telemetry.Disk(); err == nil {
		gauge(desc("disk_free_bytes", "Free space on the disk of the telemetry store."), float64(d.Free))
		gauge(desc("disk_reserve_bytes", "Free space below which telemetry is put off."), float64(d.Reserve))
	}
	m.expiries(gauge)
	if a.images != nil {
		m.images(a.images.Stats(), gauge, count)
	}
	if e, ok := a.wire.(*embedded); ok {
		m.broker(e, gauge, count)
	}
}

// expiries tells how long certificates last: of each kind, the one that ends first.
func (m *meter) expiries(gauge func(*prometheus.Desc, float64, ...string)) {
	list, err := m.agent.enroll.Expiries()
	if err != nil {
		return // the scrape lacks it, and the store's fault shows elsewhere
	}
	d := desc("certificate_expiry_seconds", "Time until the first certificate of a kind expires.", "kind")
	seen := map[string]bool{}
	for _, e := range list {
		if !seen[e.Kind] {
			seen[e.Kind] = true
			gauge(d, time.Until(e.NotAfter).Seconds(), e.Kind)
		}
	}
}

func (m *meter) images(s image.Stats, gauge, count func(*prometheus.Desc, float64, ...string)) {
	gauge(desc("images_bytes", "Bytes of images that are kept, and set aside for what is being fetched."), float64(s.Bytes))
	gauge(desc("images_max_bytes", "As many as may be (images.max_bytes)."), float64(s.MaxBytes))
	gauge(desc("images_names", "Names with a tag that are known."), float64(s.Names))
	gauge(desc("images_fetching", "Blobs that are being fetched."), float64(s.Flights))
	asked := desc("images_requests_total", "Manifests and blobs that were asked for, by where they came from.", "from")
	count(asked, float64(s.Hits), "store")
	count(asked, float64(s.Misses), "registry")
	count(desc("images_refused_total", "Blobs that were not handed out, as too many others were (images.pulls)."), float64(s.Refused))
	count(desc("images_failed_total", "Blobs that could not be fetched."), float64(s.Failures))
	count(desc("images_registry_requests_total", "Requests for blobs to registries, those that went on after a break included."), float64(s.Tries))
	count(desc("images_fetched_bytes_total", "Bytes of blobs from registries."), float64(s.FetchedBytes))
	count(desc("images_served_bytes_total", "Bytes of manifests and blobs handed out."), float64(s.ServedBytes))
	count(desc("images_evicted_total", "Manifests that made way for others."), float64(s.Evicted))
	count(desc("images_repacked_total", "Layers packed anew, from zstd to gzip."), float64(s.Repacked))
	count(desc("images_imports_total", "Archives that were imported."), float64(s.Imports))
}

func (m *meter) broker(e *embedded, gauge, count func(*prometheus.Desc, float64, ...string)) {
	s := e.Stats()
	gauge(desc("broker_connections", "MQTT connections."), float64(s.Connections))
	count(desc("broker_messages_received_total", "MQTT messages from clients."), float64(s.Received))
	count(desc("broker_messages_sent_total", "MQTT messages to clients."), float64(s.Sent))
	count(desc("broker_received_bytes_total", "MQTT bytes from clients, without TLS."), float64(s.BytesIn))
	count(desc("broker_sent_bytes_total", "MQTT bytes to clients, without TLS."), float64(s.BytesOut))
	count(desc("broker_dropped_total", "Messages that a slow client did not get."), float64(s.Dropped))
	refused := desc("broker_refused_total", "Connections and messages that were refused, by reason.", "reason")
	for reason, n := range s.Refused {
		count(refused, float64(n), reason)
	}
}
