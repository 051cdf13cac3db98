package probe

import (
	"context"
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"

	"golang.org/x/sys/unix"
)

type unameProbe struct {
	uname  func(*unix.Utsname) error
	next   unix.Utsname
	last   unix.Utsname
	series string
}

func newUname(e *env) Probe { return &unameProbe{uname: e.uname} }

func (p *unameProbe) Name() string { return "uname" }

func (p *unameProbe) Read(_ context.Context, emit func(string, float64)) error {
	p.next = unix.Utsname{}
	if err := p.uname(&p.next); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	u := &p.next
	if p.series == "" || *u != p.last { // the host name can change
		text := func(field [65]byte) string { return unix.ByteSliceToString(field[:]) }
		p.series = seriesName("node_uname_info", "domainname", text(u.Domainname), "machine", text(u.Machine),
			"nodename", text(u.Nodename), "release", text(u.Release), "sysname", text(u.Sysname), "version", text(u.Version))
		p.last = *u
	}
	emit(p.series, 1)
	return nil
}

// selfProbe watches the agent itself. More comes from the hook that the wiring sets.
type selfProbe struct {
	statm string
	page  float64
	buf   *scratch
	heap  [2]metrics.Sample
	hook  func() []Sample
}

func newSelf(e *env) Probe {
	p := &selfProbe{statm: e.cfg.Proc + "/self/statm", page: float64(os.Getpagesize()), buf: e.buf, hook: e.self}
	p.heap[0].Name = "/sched/goroutines:goroutines"
	p.heap[1].Name = "/memory/classes/heap/objects:bytes"
	return p
}

func (p *selfProbe) Name() string { return "self" }

func (p *selfProbe) Read(_ context.Context, emit func(string, float64)) error {
	metrics.Read(p.heap[:])
	emit("skerry_edge_goroutines", float64(p.heap[0].Value.Uint64()))
	emit("skerry_edge_heap_bytes", float64(p.heap[1].Value.Uint64()))
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		return fmt.Errorf("getrusage: %w", err)
	}
	emit("skerry_edge_cpu_seconds_total", float64(use.Utime.Nano()+use.Stime.Nano())/1e9)
	if p.hook != nil {
		for _, s := range p.hook() {
			emit(s.Series, s.Value)
		}
	}
	data, err := p.buf.read(p.statm, 4<<10)
	if err != nil {
		return err
	}
	_, rest := cutField(data)
	field, _ := cutField(rest)
	pages, err := strconv.ParseUint(string(field), 10, 64)
	if err != nil {
		return fmt.Errorf("parse %s: %w", p.statm, err)
	}
	emit("skerry_edge_resident_memory_bytes", float64(pages)*p.page)
	return nil
}
