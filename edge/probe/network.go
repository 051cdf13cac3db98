package probe

import (
	"bytes"
	"context"
	"errors"
	"regexp"
)

var networkNames = []string{
	"node_network_receive_bytes_total", "node_network_receive_packets_total",
	"node_network_receive_errs_total", "node_network_receive_drop_total",
	"node_network_transmit_bytes_total", "node_network_transmit_packets_total",
	"node_network_transmit_errs_total", "node_network_transmit_drop_total",
	"node_network_up",
}

// networkColumns are the columns of /proc/net/dev in the order of networkNames: bytes, packets, errors and drops, first
// received, then sent.
var networkColumns = [...]int{0, 1, 2, 3, 8, 9, 10, 11}

const networkFields = 12

type networkProbe struct {
	path, class string
	ignore      *regexp.Regexp
	buf         *scratch
	table       scratch                   // its own: the states are read while its lines are
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

func (p *networkProbe) Read(_ context.Context, emit func(string, float64)) error {
	data, err := p.table.read(p.path, maxKernelFile)
	if err != nil {
		return err
	}
	found := 0
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		name, columns, ok := parseNetwork(line)
		if !ok {
			continue // the two lines of the heading
		}
		found++
		d, known := p.devices[string(name)]
		if !known {
			d = p.add(string(name))
		}
		if d != nil {
			p.emit(d, &columns, emit)
		}
	}
	if found == 0 {
		return errors.New("parse " + p.path + ": no interface, not even lo")
	}
	return nil
}

func (p *networkProbe) emit(d *networkDevice, columns *[networkFields]uint64, emit func(string, float64)) {
	for i, c := range networkColumns {
		emit(d.series[i], float64(columns[c]))
	}
	state, err := p.buf.read(d.state, 64)
	if err != nil {
		return // an alias such as eth0:1 has none, or it is just being unplugged
	}
	up := 0.0
	if state, _ = cutLine(state); string(state) == "up" {
		up = 1
	}
	emit(d.series[len(networkColumns)], up)
}

// parseNetwork reads one line of /proc/net/dev; the colon after an alias is its own.
func parseNetwork(line []byte) (name []byte, columns [networkFields]uint64, ok bool) {
	i := bytes.LastIndexByte(line, ':')
	if i < 0 {
		return nil, columns, false
	}
	name, line = bytes.TrimSpace(line[:i]), line[i+1:]
	for i := range columns {
		var field []byte
		field, line = cutField(line)
		if columns[i], ok = parseUint(field); !ok {
			return nil, columns, false
		}
	}
	return name, columns, len(name) > 0
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
