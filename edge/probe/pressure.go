package probe

import (
	"bytes"
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// pressure reads the kernel's PSI (Documentation/accounting/psi.rst, Linux 4.20): microseconds in which some or all
// tasks waited.
type pressure struct {
	dir string
	buf *scratch
}

var pressures = [...]struct{ file, waiting, stalled string }{
	{"/cpu", "node_pressure_cpu_waiting_seconds_total", ""}, // of all tasks at once the CPU cannot be short
	{"/io", "node_pressure_io_waiting_seconds_total", "node_pressure_io_stalled_seconds_total"},
	{"/memory", "node_pressure_memory_waiting_seconds_total", "node_pressure_memory_stalled_seconds_total"},
}

func newPressure(e *env) Probe { return &pressure{e.cfg.Proc + "/pressure", e.buf} }

func (p *pressure) Name() string { return "pressure" }

func (p *pressure) Read(_ context.Context, emit func(string, float64)) error {
	for _, f := range pressures {
		data, err := p.buf.read(p.dir+f.file, maxKernelFile)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTSUP) { // or psi=0
			return ErrNoData
		}
		if err != nil {
			return err
		}
		some, full := parsePressure(data)
		if some < 0 {
			return errors.New("parse " + p.dir + f.file + ": no line `some … total=`")
		}
		emit(f.waiting, some/1e6)
		if f.stalled != "" && full >= 0 {
			emit(f.stalled, full/1e6)
		}
	}
	return nil
}

// parsePressure returns the totals in microseconds, -1 where a line is missing.
func parsePressure(data []byte) (some, full float64) {
	some, full = -1, -1
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		kind, _ := cutField(line)
		_, after, ok := bytes.Cut(line, []byte("total="))
		if !ok {
			continue
		}
		total, _ := cutField(after)
		v, ok := parseUint(total)
		switch {
		case !ok:
		case string(kind) == "some":
			some = float64(v)
		case string(kind) == "full":
			full = float64(v)
		}
	}
	return some, full
}
