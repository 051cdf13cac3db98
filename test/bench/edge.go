package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

const (
	mib = 1 << 20
	kib = 1 << 10
)

// usage is what a node agent has used since it started.
type usage struct {
	at         time.Time
	cpuSeconds float64
	diskBytes  float64 // what the kernel was made to write (proc(5), io write_bytes)
	linkBytes  float64
	flashBytes float64
}

// The programs of a node agent: without, and with the runtimes that need a library of their own.
const lite, full = "skerry-edge", "skerry-edge-full"

// size compares the programs with what a device may have to hold.
func size(_ context.Context, o options) ([]row, error) {
	var rows []row
	for _, p := range []struct {
		name   string
		budget float64
	}{{lite, 8}, {full, 18}} {
		info, err := os.Stat(filepath.Join(o.bin, p.name))
		if err != nil {
			return rows, fmt.Errorf("%w; build it first: make build full", err)
		}
		bytes := float64(info.Size()) / mib
		r := fact(p.name+", "+runtime.GOARCH, bytes, "MiB")
		if runtime.GOARCH == "amd64" { // the budget's
			r = explained(atMost(r.What, bytes, p.budget, r.Unit), "ADR 7")
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// edge watches one node agent with default probes at 10 s, connected over mutual TLS, and the full one beside it.
func edge(ctx context.Context, o options) ([]row, error) {
	s, err := newSite(ctx, o, "edge")
	if err != nil {
		return nil, err
	}
	defer s.stop()
	p, config, err := s.node(ctx, lite, "edge-1", "10s")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	whole, _, err := s.node(ctx, full, "edge-2", "10s")
	if err != nil {
		return nil, err
	}
	defer whole.stop()
	sctx, unscraped := context.WithCancel(ctx)
	defer unscraped()
	reference, err := startExporter(sctx, s.dir)
	if err != nil {
		return nil, err
	}
	if reference != nil {
		defer reference.stop()
	}
	watch := time.Duration(o.minutes * float64(time.Minute))
	// The first seconds belong to enrolment and the first announcement, not to the rates.
	if !agent.Wait(ctx, min(30*time.Second, watch/3)) {
		return nil, ctx.Err()
	}
	before, err := usageOf(ctx, s.bin, config, p.pid())
	if err := errors.Join(err, reference.begin()); err != nil {
		return nil, err
	}
	steady := min(2*time.Minute, watch/2) // longer than any period of the agent but the hourly one
	if !agent.Wait(ctx, watch-steady) {
		return nil, ctx.Err()
	}
	after, err := usageOf(ctx, s.bin, config, p.pid())
	if err != nil {
		return nil, err
	}
	rss, pss, err := resident(ctx, p.pid(), steady)
	if err != nil {
		return nil, err
	}
	wholeRSS, _, err := resident(ctx, whole.pid(), 10*time.Second)
	if err != nil {
		return nil, err
	}
	rows := []row{
		atMost("edge RSS, median of the last minutes", median(rss)/mib, 12, "MiB"),
		fact("edge RSS, most", slices.Max(rss)/mib, "MiB"),
		atMost("edge PSS, median of the last minutes", median(pss)/mib, 10, "MiB"),
		fact("edge PSS, most", slices.Max(pss)/mib, "MiB"),
		atMost("edge full, RSS, median of the last seconds", median(wholeRSS)/mib, 16, "MiB"),
	}
	rows = append(rows, rates(&before, &after)...)
	return rows, reference.beside(&rows[0], &rows[5])
}

// rates are what a node agent used from before to after; its share of a core comes first.
func rates(before, after *usage) []row {
	seconds := after.at.Sub(before.at).Seconds()
	const day, hour = 86400, 3600
	return []row{
		atMost("edge CPU", 100*(after.cpuSeconds-before.cpuSeconds)/seconds, 0.1, "% of a core"),
		fact("edge wire (MQTT, both ways)", (after.linkBytes-before.linkBytes)/seconds*hour/kib, "KiB/h"),
		fact("edge flash, by the outbox", (after.flashBytes-before.flashBytes)/seconds*day/kib, "KiB/day"),
		fact("edge flash, by the kernel", (after.diskBytes-before.diskBytes)/seconds*day/kib, "KiB/day"),
	}
}

// resident samples the memory of a process every second for d. Nothing else maps its program, so PSS flatters nobody.
func resident(ctx context.Context, pid int, d time.Duration) (rss, pss []float64, err error) {
	for end := time.Now().Add(d); time.Now().Before(end) || len(rss) == 0; {
		r, err1 := procBytes(pid, "status", "VmRSS:")
		p, err2 := procBytes(pid, "smaps_rollup", "Pss:")
		if err := errors.Join(err1, err2); err != nil {
			return nil, nil, err
		}
		rss, pss = append(rss, r), append(pss, p)
		if !agent.Wait(ctx, time.Second) {
			return nil, nil, ctx.Err()
		}
	}
	return rss, pss, nil
}

func usageOf(ctx context.Context, bin, config string, pid int) (usage, error) {
	u := usage{at: time.Now()}
	raw, err := exec.CommandContext(ctx, filepath.Join(bin, "skerry-edge"), "status", "--config", config, "-o", "json").Output()
	if err != nil {
		return u, fmt.Errorf("ask node agent for its status: %w", err)
	}
	var st struct {
		FlashBytes float64 `json:"flashBytes"`
		Link       struct {
			Connected  bool    `json:"connected"`
			Reconnects int     `json:"reconnects"`
			BytesIn    float64 `json:"bytesIn"`
			BytesOut   float64 `json:"bytesOut"`
		} `json:"link"`
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return u, fmt.Errorf("read status of node agent: %w", err)
	}
	if !st.Link.Connected {
		return u, errors.New("node agent is not connected: its figures would be those of another state")
	}
	u.flashBytes, u.linkBytes = st.FlashBytes, st.Link.BytesIn+st.Link.BytesOut
	if u.cpuSeconds, err = cpuSeconds(pid); err != nil {
		return u, err
	}
	u.diskBytes, err = procNumber(pid, "io", "write_bytes:")
	return u, err
}

// procBytes reads a field in kB of a file of proc(5).
func procBytes(pid int, file, field string) (float64, error) {
	v, err := procNumber(pid, file, field)
	return v * kib, err
}

func procNumber(pid int, file, field string) (float64, error) {
	path := fmt.Sprintf("/proc/%d/%s", pid, file)
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			return strconv.ParseFloat(strings.Fields(rest)[0], 64)
		}
	}
	return 0, fmt.Errorf("read %s: no %s", path, field)
}

// cpuSeconds is user and system time of a process. schedstat counts nanoseconds of each thread; stat would count ticks of
// 10 ms, which is coarse for something that shall use a thousandth of a core.
func cpuSeconds(pid int) (float64, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err == nil && len(tasks) > 0 {
		if sum, err := schedSeconds(tasks); err == nil && sum > 0 {
			return sum, nil
		}
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time of %d: %w", pid, err)
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100, errors.Join(err1, err2) // USER_HZ is 100 on every port of Linux that Go has
}

func schedSeconds(tasks []string) (float64, error) {
	sum := 0.0
	for _, path := range tasks {
		raw, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(raw))
		if len(fields) == 0 {
			return 0, fmt.Errorf("read %s: empty", path)
		}
		ns, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, err
		}
		sum += ns / 1e9
	}
	return sum, nil
}
