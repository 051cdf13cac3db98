package probe

import (
	"context"
	"fmt"
	"regexp"

	"github.com/shirou/gopsutil/v4/net"
)

var networkNames = []string{
	"node_network_receive_bytes_total", "node_network_receive_packets_total",
	"node_network_receive_errs_total", "node_network_receive_drop_total",
	"node_network_transmit_bytes_total", "node_network_transmit_packets_total",
	"node_network_transmit_errs_total", "node_network_transmit_drop_total",
	"node_network_up",
}

type networkProbe struct {
	path, class string
	ignore      *regexp.Regexp
	buf         *scratch
	devices     map[string]*networkDevice // nil value: ignored
}

type networkDevice struct {
	series []string
	state  string // path of its operstate
}

func newNetwork(e *env) Probe {
	return &networkProbe{path: e.cfg.Proc + "/net/dev", class: e.cfg.Sys + "/class/net/", ignore: e.ignoreNetwork,
		buf: e.buf, devices: make(map[string]*networkDevice)}
}

func (p *networkProbe) Name() string { return "netdev" }

func (p *networkProbe) Read(ctx context.Context, emit func(string, float64)) error {
	counters, err := net.IOCountersByFileWithContext(ctx, true, p.path)
	if err != nil {
		return fmt.Errorf("read network counters: %w", err)
	}
	for i := range counters {
		c := &counters[i]
		d, known := p.devices[c.Name]
		if !known {
			d = p.add(c.Name)
		}
		if d == nil {
			continue
		}
		for i, v := range [...]uint64{c.BytesRecv, c.PacketsRecv, c.Errin, c.Dropin,
			c.BytesSent, c.PacketsSent, c.Errout, c.Dropout} {
			emit(d.series[i], float64(v))
		}
		state, err := p.buf.read(d.state, 64)
		if err != nil {
			continue // an alias such as eth0:1 has none, or it is just being unplugged
		}
		up := 0.0
		if state, _ = cutLine(state); string(state) == "up" {
			up = 1
		}
		emit(d.series[8], up)
	}
	return nil
}

func (p *networkProbe) add(name string) *networkDevice {
	if len(p.devices) >= maxDevices {
		clear(p.devices)
	}
	var d *networkDevice
	if !p.ignore.MatchString(name) {
		d = &networkDevice{series: seriesNames(networkNames, "device", name), state: p.class + name + "/operstate"}
	}
	p.devices[name] = d
	return d
}
