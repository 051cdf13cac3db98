package scale

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/cli"
)

// watch samples the cluster agent's memory, and both processes' time, once a second.
type watch struct {
	pid func() int

	mu      sync.Mutex
	rss     []int64
	cluster usage
	self    usage
}

// usage is processor time that adds up over the lives of a process.
type usage struct {
	pid          int
	before, life float64 // seconds: of lives that are over, of this one
}

func (u *usage) take(pid int, seconds float64) {
	if pid != u.pid {
		u.before, u.life, u.pid = u.before+u.life, 0, pid
	}
	u.life = max(u.life, seconds)
}

// Phase is what the cluster agent, and the swarm beside it, used in a while.
type Phase struct {
	Seconds    float64 `json:"seconds"`
	CPU        float64 `json:"cpuPercentOfCore"`
	SwarmCPU   float64 `json:"swarmCpuPercentOfCore"`
	RSSBytes   int64   `json:"rssBytes"` // median
	RSSMost    int64   `json:"rssBytesMost"`
	clusterCPU float64
	swarmCPU   float64
	begun      time.Time
}

// Run samples until ctx ends.
func (w *watch) Run(ctx context.Context) {
	for {
		w.look()
		if !agent.Wait(ctx, time.Second) {
			return
		}
	}
}

func (w *watch) look() {
	pid := w.pid()
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, err := cpuSeconds("self"); err == nil {
		w.self.take(1, s)
	}
	if pid == 0 {
		return
	}
	if s, err := cpuSeconds(strconv.Itoa(pid)); err == nil {
		w.cluster.take(pid, s)
	}
	if rss := rssBytes(pid); rss > 0 {
		w.rss = append(w.rss, rss)
	}
}

// begin begins a phase.
func (w *watch) begin() Phase {
	w.look()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rss = nil
	return Phase{begun: time.Now(), clusterCPU: w.cluster.before + w.cluster.life, swarmCPU: w.self.before + w.self.life}
}

// end returns what was used since begin.
func (w *watch) end(p Phase) Phase {
	w.look()
	w.mu.Lock()
	defer w.mu.Unlock()
	p.Seconds = time.Since(p.begun).Seconds()
	p.CPU = 100 * (w.cluster.before + w.cluster.life - p.clusterCPU) / p.Seconds
	p.SwarmCPU = 100 * (w.self.before + w.self.life - p.swarmCPU) / p.Seconds
	if len(w.rss) > 0 {
		p.RSSMost = slices.Max(w.rss)
		slices.Sort(w.rss)
		p.RSSBytes = w.rss[len(w.rss)/2]
	}
	return p
}

// cpuSeconds is user and system time of a process, proc(5).
func cpuSeconds(pid string) (float64, error) {
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read /proc/%s/stat: %d fields", pid, len(fields))
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("read /proc/%s/stat: times %q and %q", pid, fields[11], fields[12])
	}
	return (user + system) / 100, nil // USER_HZ is 100 on every port of Linux that Go has
}

// rssBytes is a process's resident memory; 0 when it is gone.
func rssBytes(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := bytes.Fields(raw)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// scrape reads the cluster agent's own metrics; those with labels under name{labels}.
func scrape(ctx context.Context, client *cli.Client) (map[string]float64, error) {
	resp, err := client.Do(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			out[name] = v
		}
	}
	return out, lines.Err()
}
