package probe

import (
	"context"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/test/freeport"
)

// nodeExporter starts Debian's node_exporter on loopback and returns what it says.
func nodeExporter(t *testing.T) map[string]float64 {
	t.Helper()
	program, err := exec.LookPath("prometheus-node-exporter")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("prometheus-node-exporter is missing; install the package of that name")
		}
		t.Skip("needs the package prometheus-node-exporter")
	}
	addr := freeport.Addr(t)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, program, "--web.listen-address="+addr, "--collector.processes",
		"--collector.filesystem.mount-points-exclude="+defaultIgnoreMounts)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed: that is what it says
	})
	deadline, tick := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-deadline:
			t.Fatalf("node_exporter does not answer on %s", addr)
		case <-tick.C:
		}
		resp, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			continue
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		out := make(map[string]float64)
		var p textParser
		if err := p.parse(strings.NewReader(string(raw)), func(p *point) { out[string(p.appendSeries(nil))] = p.value }); err != nil {
			t.Fatalf("our parser on node_exporter's text: %v", err)
		}
		return out
	}
}

func TestPeerNamesMatchNodeExporter(t *testing.T) {
	theirs := nodeExporter(t)
	c := newCollector(t, Config{})
	scrape, err := c.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Values that differ by no more than a share, or an amount, between two scrapes a moment apart.
	tolerance := func(series string) (share, amount float64) {
		name, _, _ := strings.Cut(series, "{")
		switch {
		case strings.HasSuffix(name, "_info"), strings.HasSuffix(name, "_readonly"), strings.HasSuffix(name, "_device_error"),
			name == "node_network_up", name == "node_boot_time_seconds", name == "node_memory_MemTotal_bytes",
			name == "node_memory_SwapTotal_bytes", name == "node_filesystem_size_bytes", name == "node_filesystem_files":
			return 0, 0
		case strings.HasPrefix(name, "node_load"):
			return 0, 0.5
		case name == "node_time_seconds":
			return 0, 30
		case name == "node_cpu_seconds_total", strings.HasPrefix(name, "node_pressure"):
			return 0.05, 10
		case strings.HasPrefix(name, "node_filesystem"):
			return 0.05, 64 << 20
		case name == "node_memory_MemFree_bytes", name == "node_memory_MemAvailable_bytes":
			return 0.1, 256 << 20
		case strings.HasPrefix(name, "node_network_"), strings.HasPrefix(name, "node_disk_"):
			return 0.1, 64 << 20
		}
		return math.Inf(1), 0
	}
	compared, names := 0, 0
	for _, s := range scrape.Samples {
		if !strings.HasPrefix(s.Series, "node_") {
			continue // ours: skerry_edge_…
		}
		if strings.Contains(s.Series, `{collector="self"}`) {
			continue // the probe on the agent itself has no counterpart
		}
		if strings.HasPrefix(s.Series, "node_scrape_collector_") && strings.Contains(s.Series, `"time"`) {
			names++ // named alike, though node_exporter's tells more than the time
			continue
		}
		their, ok := theirs[s.Series]
		if !ok {
			t.Errorf("%s: node_exporter has no such series", s.Series)
			continue
		}
		names++
		share, amount := tolerance(s.Series)
		if math.IsInf(share, 1) {
			continue
		}
		compared++
		if diff := math.Abs(their - s.Value); diff > math.Max(share*math.Abs(their), amount) {
			t.Errorf("%s: we say %v, node_exporter %v", s.Series, s.Value, their)
		}
	}
	if names < 80 || compared < 40 {
		t.Errorf("%d names and %d values compared; wanted more for the test to mean anything", names, compared)
	}
	t.Logf("%d series by name, %d by value", names, compared)
}
