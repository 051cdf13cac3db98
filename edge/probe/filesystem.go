package probe

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
)

const (
	// mountTimeout is how long statfs(2) may take: a hard NFS mount whose server is gone never answers.
	mountTimeout = 2 * time.Second
	maxMounts    = 64
	// maxMountLines bounds how many lines of the mount table are remembered.
	maxMountLines = 512
)

var filesystemNames = []string{
	"node_filesystem_device_error", "node_filesystem_readonly",
	"node_filesystem_size_bytes", "node_filesystem_free_bytes", "node_filesystem_avail_bytes",
	"node_filesystem_files", "node_filesystem_files_free",
}

type filesystem struct {
	paths                     [2]string
	ignoreTypes, ignorePoints *regexp.Regexp
	usage                     func(ctx context.Context, path string) (*disk.UsageStat, error)
	timeout                   time.Duration
	buf                       scratch
	mounts                    map[mountKey]*mount
	lines                     map[string]mountLine
	round                     uint64
}

// mountKey is what node_exporter labels a filesystem with.
type mountKey struct{ device, point, fstype string }

// mountLine is a line of the mount table, parsed.
type mountLine struct {
	key      mountKey
	readonly bool
	wanted   bool
}

type mount struct {
	mountKey
	readonly bool
	series   []string
	round    uint64
	asked    chan usage // not nil while the kernel has not answered
}

type usage struct {
	stat *disk.UsageStat
	err  error
}

// newFilesystem reads the mounts of pid 1, which the agent's own sandbox does not hide, and its own where it may not.
func newFilesystem(e *env) Probe {
	return &filesystem{paths: [2]string{e.cfg.Proc + "/1/mounts", e.cfg.Proc + "/self/mounts"}, ignoreTypes: e.ignoreFSTypes,
		ignorePoints: e.ignoreMounts, usage: e.usage, timeout: mountTimeout, mounts: make(map[mountKey]*mount), lines: make(map[string]mountLine)}
}

func (p *filesystem) Name() string { return "filesystem" }

// Read asks every mount in turn. One that does not answer in time is marked, reported and not asked again before the
// kernel has let go of it, so each holds at most one thread.
func (p *filesystem) Read(ctx context.Context, emit func(string, float64)) error {
	data, err := p.buf.read(p.paths[0], maxKernelFile)
	if err != nil {
		if data, err = p.buf.read(p.paths[1], maxKernelFile); err != nil {
			return err
		}
	}
	p.round++
	var failed error
	seen := 0
	for len(data) > 0 && ctx.Err() == nil {
		var line []byte
		line, data = cutLine(data)
		l := p.line(line)
		if !l.wanted {
			continue
		}
		m := p.mount(l.key)
		if m.round == p.round {
			continue // mounted over itself
		}
		m.round, m.readonly = p.round, l.readonly
		if seen++; seen > maxMounts {
			failed = fmt.Errorf("more than %d mounts: the others are left out; see ignoreMounts", maxMounts)
			break
		}
		if err := p.ask(ctx, m, emit); err != nil && failed == nil {
			failed = err
		}
	}
	for key, m := range p.mounts {
		if m.round != p.round && m.asked == nil {
			delete(p.mounts, key)
		}
	}
	return failed
}

func (p *filesystem) ask(ctx context.Context, m *mount, emit func(string, float64)) error {
	if m.asked != nil {
		select {
		case <-m.asked: // stale
			m.asked = nil
		default:
			emit(m.series[0], 1)
			return fmt.Errorf("filesystem %s: still no answer from the kernel; skipped", m.point)
		}
	}
	asked, usageOf, path := make(chan usage, 1), p.usage, m.point
	go func() {
		stat, err := usageOf(ctx, path)
		asked <- usage{stat, err}
	}()
	limit := time.NewTimer(p.timeout)
	defer limit.Stop()
	select {
	case u := <-asked:
		if u.err != nil {
			emit(m.series[0], 1)
			return fmt.Errorf("filesystem %s: %w", m.point, u.err)
		}
		m.emit(u.stat, emit)
		return nil
	case <-limit.C:
	case <-ctx.Done():
	}
	m.asked = asked
	emit(m.series[0], 1)
	return fmt.Errorf("filesystem %s: no answer in %s; skipped", m.point, p.timeout)
}

func (m *mount) emit(u *disk.UsageStat, emit func(string, float64)) {
	readonly := 0.0
	if m.readonly {
		readonly = 1
	}
	// gopsutil's Free is what an unprivileged user may take (avail), Total-Used what is free to anyone.
	for i, v := range [...]float64{0, readonly, float64(u.Total), float64(u.Total - u.Used), float64(u.Free),
		float64(u.InodesTotal), float64(u.InodesFree)} {
		emit(m.series[i], v)
	}
}

// line parses a line once: a host of containers has hundreds, and they seldom change.
func (p *filesystem) line(raw []byte) mountLine {
	l, known := p.lines[string(raw)]
	if !known {
		if len(p.lines) >= maxMountLines {
			clear(p.lines)
		}
		var ok bool
		l.key, l.readonly, ok = parseMount(raw)
		l.wanted = ok && !p.ignoreTypes.MatchString(l.key.fstype) && !p.ignorePoints.MatchString(l.key.point)
		p.lines[string(raw)] = l
	}
	return l
}

func (p *filesystem) mount(key mountKey) *mount {
	m := p.mounts[key]
	if m == nil {
		m = &mount{mountKey: key, series: seriesNames(filesystemNames,
			"device", key.device, "fstype", key.fstype, "mountpoint", key.point)}
		p.mounts[key] = m
	}
	return m
}

// parseMount reads one line of mounts(5): device, mount point, type, options.
func parseMount(line []byte) (key mountKey, readonly, ok bool) {
	device, rest := cutField(line)
	point, rest := cutField(rest)
	fstype, rest := cutField(rest)
	options, _ := cutField(rest)
	if len(options) == 0 {
		return key, false, false
	}
	for len(options) > 0 && !readonly {
		i := 0
		for i < len(options) && options[i] != ',' {
			i++
		}
		readonly = string(options[:i]) == "ro"
		options = options[min(i+1, len(options)):]
	}
	return mountKey{unescapeMount(device), unescapeMount(point), string(fstype)}, readonly, true
}

// unescapeMount undoes the octal escapes of blanks, line ends and backslashes.
func unescapeMount(b []byte) string {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) && isOctal(b[i+1], '3') && isOctal(b[i+2], '7') && isOctal(b[i+3], '7') {
			out = append(out, (b[i+1]-'0')<<6|(b[i+2]-'0')<<3|(b[i+3]-'0'))
			i += 3
			continue
		}
		out = append(out, b[i])
	}
	return string(out)
}

func isOctal(c, most byte) bool { return c >= '0' && c <= most }
