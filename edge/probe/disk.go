package probe

import (
	"context"
	"errors"
	"regexp"
)

// maxDevices bounds how many disks, interfaces or sensors are remembered, the ignored ones included.
const maxDevices = 256

// diskColumns are the columns of /proc/diskstats after the device name (Documentation/admin-guide/iostats.rst) that we
// tell. Sectors have 512 bytes whatever the disk says; times are in milliseconds.
var diskColumns = [...]struct {
	column int
	name   string
	div    float64
	mul    float64
}{
	{0, "node_disk_reads_completed_total", 1, 1},
	{2, "node_disk_read_bytes_total", 1, 512},
	{3, "node_disk_read_time_seconds_total", 1000, 1},
	{4, "node_disk_writes_completed_total", 1, 1},
	{6, "node_disk_written_bytes_total", 1, 512},
	{7, "node_disk_write_time_seconds_total", 1000, 1},
	{8, "node_disk_io_now", 1, 1},
	{9, "node_disk_io_time_seconds_total", 1000, 1},
	{10, "node_disk_io_time_weighted_seconds_total", 1000, 1},
}

const diskFields = 11

type diskProbe struct {
	path   string
	ignore *regexp.Regexp
	buf    *scratch
	disks  map[string]*diskSeries // nil value: ignored
}

type diskSeries [len(diskColumns)]string

func newDisk(e *env) Probe {
	return &diskProbe{path: e.cfg.Proc + "/diskstats", ignore: e.ignoreDisks, buf: e.buf,
		disks: make(map[string]*diskSeries)}
}

func (p *diskProbe) Name() string { return "diskstats" }

func (p *diskProbe) Read(_ context.Context, emit func(string, float64)) error {
	data, err := p.buf.read(p.path, maxKernelFile)
	if errors.Is(err, errAbsent) {
		return ErrNoData // a kernel without block devices
	}
	if err != nil {
		return err
	}
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		name, columns, ok := parseDisk(line)
		if !ok {
			continue
		}
		s, known := p.disks[string(name)]
		if !known {
			s = p.add(string(name))
		}
		if s == nil {
			continue
		}
		for i, c := range diskColumns {
			emit(s[i], float64(columns[c.column])*c.mul/c.div)
		}
	}
	return nil
}

func (p *diskProbe) add(name string) *diskSeries {
	if len(p.disks) >= maxDevices {
		clear(p.disks)
	}
	var s *diskSeries
	if !p.ignore.MatchString(name) {
		s = new(diskSeries)
		for i, c := range diskColumns {
			s[i] = seriesName(c.name, "device", name)
		}
	}
	p.disks[name] = s
	return s
}

// parseDisk reads one line of /proc/diskstats; a line with fewer columns (a partition of an old kernel) is not ok.
func parseDisk(line []byte) (name []byte, columns [diskFields]uint64, ok bool) {
	_, line = cutField(line) // major
	_, line = cutField(line) // minor
	name, line = cutField(line)
	if len(name) == 0 {
		return nil, columns, false
	}
	for i := range columns {
		var field []byte
		field, line = cutField(line)
		if columns[i], ok = parseUint(field); !ok {
			return nil, columns, false
		}
	}
	return name, columns, true
}
