package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/cluster/bridge"
	"github.com/skerry-edge/skerry/cluster/kube/kubelet"
)

// nodeUsage is what a device's newest telemetry says that it uses as a whole.
func (a *Agent) nodeUsage(ctx context.Context, node string) (*kubelet.Usage, error) {
	now := a.clock.Now()
	one := func(format string) (float64, error) {
		list, err := a.telemetry.Instant(ctx, fmt.Sprintf(format, node), now)
		if err != nil || len(list) == 0 || len(list[0].Points) == 0 {
			return 0, err
		}
		return list[0].Points[0].Value, nil
	}
	cpu, err := one(`sum(node_cpu_seconds_total{node=%[1]q,mode!~"idle|iowait"})`)
	if err != nil {
		return nil, err
	}
	memory, err := one(`node_memory_MemTotal_bytes{node=%[1]q} - node_memory_MemAvailable_bytes{node=%[1]q}`)
	if err != nil {
		return nil, err
	}
	boot, err := one(`node_boot_time_seconds{node=%[1]q}`)
	return &kubelet.Usage{At: now, CPUSeconds: cpu, MemoryBytes: uint64(max(memory, 0)), StartSeconds: boot}, err
}

// startedOf is when the containers of a device began, by workload/container, as it reported.
func (a *Agent) startedOf(node string) map[string]time.Time {
	out := map[string]time.Time{}
	n, _ := a.registry.Get(node)
	if n.Reported == nil {
		return out
	}
	for i := range n.Reported.Workloads {
		w := &n.Reported.Workloads[i]
		for j := range w.Containers {
			out[w.Name+"/"+w.Containers[j].Name] = w.Containers[j].Started.Time()
		}
	}
	return out
}

// pressures knows which devices are short of something, from one query for the whole fleet a minute. Safe for concurrent use.
type pressures struct {
	agent *Agent

	mu    sync.Mutex
	at    time.Time
	known map[string]bridge.Pressure
}

// pressureFor is how long an answer counts.
const pressureFor = time.Minute

// pressing are the shares of what is left below which there is pressure: a kubelet's for disks, and for memory what leaves room on
// devices that have little.
var pressing = []struct {
	query string
	set   func(p *bridge.Pressure, short bool)
}{
	{`min by (node) (node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes) < bool 0.05`, func(p *bridge.Pressure, short bool) { p.Memory = bridge.Short(short) }},
	{`max by (node) ((node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|squashfs|iso9660"} / node_filesystem_size_bytes) < bool 0.1)`,
		func(p *bridge.Pressure, short bool) { p.Disk = bridge.Short(short) }},
	{`max by (node) (node_processes_pids / node_processes_max_processes) > bool 0.9`, func(p *bridge.Pressure, short bool) { p.PIDs = bridge.Short(short) }},
}

// Pressure tells of one device.
func (p *pressures) Pressure(node string) bridge.Pressure {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.at) > pressureFor {
		p.at, p.known = now, p.agent.pressing()
	}
	return p.known[node]
}

func (a *Agent) pressing() map[string]bridge.Pressure {
	out := map[string]bridge.Pressure{}
	for _, q := range pressing {
		list, err := a.telemetry.Instant(a.life, q.query, a.clock.Now())
		if err != nil {
			a.log.Debug("pressure of devices not known", agent.KeyErr, err)
			continue
		}
		for _, s := range list {
			one := out[s.Labels["node"]]
			q.set(&one, len(s.Points) > 0 && s.Points[0].Value > 0)
			out[s.Labels["node"]] = one
		}
	}
	return out
}

// devices are what virtual nodes are made of.
type devices struct {
	*Agent
	*pressures
}
