package probe

import (
	"bytes"
	"context"
	"errors"
	"strconv"
)

// maxCPUs bounds what a damaged /proc/stat can make the probe hold.
const maxCPUs = 1024

// userHz is the unit of /proc/stat; the kernel's USER_HZ is 100 on every architecture Go runs on.
const userHz = 100

var cpuModes = [...]string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"} // columns of proc(5)

// maxIdleBack is by how much a counter may fall before it counts as a restart of that CPU: idle and iowait are known
// to run backwards a little, and rate() would take that for a wrap.
const maxIdleBack = 3.0

// cpuLine is one cpu line of /proc/stat. ID is -1 for the sum.
type cpuLine struct {
	id    int
	ticks [len(cpuModes)]uint64
}

// parseCPU appends the cpu lines of /proc/stat to lines.
func parseCPU(data []byte, lines []cpuLine) ([]cpuLine, error) {
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		name, rest := cutField(line)
		id, ok := bytes.CutPrefix(name, []byte("cpu"))
		if !ok {
			break // they come first
		}
		l := cpuLine{id: -1}
		if len(id) > 0 {
			n, ok := parseUint(id)
			if !ok || n >= maxCPUs {
				continue
			}
			l.id = int(n)
		}
		if len(lines) > maxCPUs {
			break
		}
		for i := range l.ticks { // old kernels have fewer columns
			var field []byte
			if field, rest = cutField(rest); len(field) == 0 {
				break
			}
			if l.ticks[i], ok = parseUint(field); !ok {
				return lines, errors.New("parse cpu times: not a number")
			}
		}
		lines = append(lines, l)
	}
	if len(lines) == 0 {
		return lines, errors.New("parse cpu times: no cpu line")
	}
	return lines, nil
}

type cpuProbe struct {
	path  string
	most  int
	buf   *scratch
	lines []cpuLine
	cpus  map[int]*cpuSeries
}

type cpuSeries struct {
	names [len(cpuModes)]string
	last  [len(cpuModes)]float64
}

func newCPU(e *env) Probe {
	return &cpuProbe{path: e.cfg.Proc + "/stat", most: e.cfg.MaxCPUs, buf: e.buf, cpus: make(map[int]*cpuSeries)}
}

func (p *cpuProbe) Name() string { return "cpu" }

func (p *cpuProbe) Read(_ context.Context, emit func(string, float64)) error {
	data, err := p.buf.read(p.path, maxKernelFile)
	if err != nil {
		return err
	}
	p.lines, err = parseCPU(data, p.lines[:0])
	if err != nil {
		return err
	}
	summed := len(p.lines)-1 > p.most || len(p.lines) == 1
	for i := range p.lines {
		if l := &p.lines[i]; summed == (l.id < 0) {
			p.series(l.id).emit(l, emit)
		}
	}
	return nil
}

func (p *cpuProbe) series(id int) *cpuSeries {
	s := p.cpus[id]
	if s == nil {
		s = new(cpuSeries)
		name := "all"
		if id >= 0 {
			name = strconv.Itoa(id)
		}
		for i, mode := range cpuModes {
			s.names[i] = seriesName("node_cpu_seconds_total", "cpu", name, "mode", mode)
		}
		p.cpus[id] = s
	}
	return s
}

func (s *cpuSeries) emit(l *cpuLine, emit func(string, float64)) {
	for i, ticks := range l.ticks {
		v := float64(ticks) / userHz
		if back := s.last[i] - v; back > 0 && back < maxIdleBack {
			v = s.last[i]
		}
		s.last[i] = v
		emit(s.names[i], v)
	}
}
