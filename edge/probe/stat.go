package probe

import (
	"bytes"
	"context"
	"errors"
	"time"
)

// keyed finds lines of the form `key value …` and emits the value. It serves /proc/stat, /proc/vmstat and
// /proc/meminfo; the latter counts in kibibytes, which the value of the table scales.
type keyed struct {
	name   string
	path   string
	buf    *scratch
	series map[string]keyedSeries
}

type keyedSeries struct {
	name  string
	scale float64
}

func (p *keyed) Name() string { return p.name }

func (p *keyed) Read(_ context.Context, emit func(string, float64)) error {
	data, err := p.buf.read(p.path, maxKernelFile)
	if err != nil {
		return err
	}
	if parseKeyed(data, p.series, emit) == 0 {
		return errors.New("parse " + p.path + ": no known line")
	}
	return nil
}

// parseKeyed emits what series knows and returns how many lines that were. A line whose value is not a number is left
// out: a kernel that writes one must not cost the others.
func parseKeyed(data []byte, series map[string]keyedSeries, emit func(string, float64)) int {
	found := 0
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		key, rest := cutField(line)
		s, ok := series[string(bytes.TrimSuffix(key, []byte(":")))]
		if !ok {
			continue
		}
		field, _ := cutField(rest)
		if v, ok := parseUint(field); ok {
			emit(s.name, float64(v)*s.scale)
			if found++; found == len(series) {
				break
			}
		}
	}
	return found
}

func newStat(e *env) Probe {
	return &keyed{name: "stat", path: e.cfg.Proc + "/stat", buf: e.buf, series: map[string]keyedSeries{
		"intr":          {"node_intr_total", 1},
		"ctxt":          {"node_context_switches_total", 1},
		"btime":         {"node_boot_time_seconds", 1},
		"processes":     {"node_forks_total", 1},
		"procs_running": {"node_procs_running", 1},
		"procs_blocked": {"node_procs_blocked", 1},
	}}
}

func newVMStat(e *env) Probe {
	series := make(map[string]keyedSeries)
	for _, key := range []string{"pswpin", "pswpout", "pgmajfault", "oom_kill"} {
		series[key] = keyedSeries{"node_vmstat_" + key, 1}
	}
	return &keyed{name: "vmstat", path: e.cfg.Proc + "/vmstat", buf: e.buf, series: series}
}

// newMeminfo keeps what people look at; the other thirty lines of the file would triple the bytes on the wire.
func newMeminfo(e *env) Probe {
	series := make(map[string]keyedSeries)
	for _, key := range []string{"MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapCached", "Active",
		"Inactive", "SwapTotal", "SwapFree", "Dirty", "Writeback", "AnonPages", "Mapped", "Shmem", "Slab",
		"SReclaimable", "SUnreclaim", "KernelStack", "PageTables", "Committed_AS"} {
		series[key] = keyedSeries{"node_memory_" + key + "_bytes", 1024}
	}
	return &keyed{name: "meminfo", path: e.cfg.Proc + "/meminfo", buf: e.buf, series: series}
}

// loadavg has no name of its own for the number of threads: node_exporter sums it over every process, the kernel tells
// it as the second part of the fourth field.
type loadavg struct {
	path string
	buf  *scratch
}

func newLoadavg(e *env) Probe { return &loadavg{e.cfg.Proc + "/loadavg", e.buf} }

func (p *loadavg) Name() string { return "loadavg" }

func (p *loadavg) Read(_ context.Context, emit func(string, float64)) error {
	data, err := p.buf.read(p.path, maxKernelFile)
	if err != nil {
		return err
	}
	loads, threads, err := parseLoadavg(data)
	if err != nil {
		return err
	}
	emit("node_load1", loads[0])
	emit("node_load5", loads[1])
	emit("node_load15", loads[2])
	emit("node_processes_threads", float64(threads))
	return nil
}

func parseLoadavg(data []byte) (loads [3]float64, threads uint64, err error) {
	bad := errors.New("parse loadavg: wanted `0.12 0.09 0.19 1/94 4711`")
	line, _ := cutLine(data)
	var field []byte
	for i := range loads {
		var ok bool
		field, line = cutField(line)
		if loads[i], ok = parseFloat(field); !ok {
			return loads, 0, bad
		}
	}
	field, _ = cutField(line)
	_, total, ok := bytes.Cut(field, []byte("/"))
	if !ok {
		return loads, 0, bad
	}
	if threads, ok = parseUint(total); !ok {
		return loads, 0, bad
	}
	return loads, threads, nil
}

// clockProbe tells the system clock as it is, also while the agent does not believe it: the difference is the finding.
type clockProbe struct{ now func() time.Time }

func newTime(e *env) Probe { return &clockProbe{e.now} }

func (p *clockProbe) Name() string { return "time" }

func (p *clockProbe) Read(_ context.Context, emit func(string, float64)) error {
	emit("node_time_seconds", float64(p.now().UnixNano())/1e9)
	return nil
}
