package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// exporterProgram is Debian's node_exporter, which reports much the same of a machine and does nothing else.
const exporterProgram = "/usr/bin/prometheus-node-exporter"

// exporter is node_exporter, scraped as often as the node agent measures: the reference of what measuring alone takes.
type exporter struct {
	*process
	began      time.Time
	cpuSeconds float64
}

// startExporter starts it; nil when it is not installed. It is scraped until ctx ends.
func startExporter(ctx context.Context, dir string) (*exporter, error) {
	if _, err := os.Stat(exporterProgram); err != nil {
		return nil, nil
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	addr := free.Addr().String()
	if err := free.Close(); err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	p, err := spawn(filepath.Join(dir, "exporter.log"), exporterProgram, "--web.listen-address="+addr)
	if err != nil {
		return nil, err
	}
	scrape := func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK
	}
	if err := p.until(ctx, "node_exporter", scrape); err != nil {
		p.stop()
		return nil, err
	}
	go func() { // ends with ctx
		for agent.Wait(ctx, 10*time.Second) {
			scrape(ctx)
		}
	}()
	return &exporter{process: p}, nil
}

// begin begins the time that counts.
func (e *exporter) begin() (err error) {
	if e == nil {
		return nil
	}
	e.began = time.Now()
	e.cpuSeconds, err = cpuSeconds(e.pid())
	return err
}

// beside puts what node_exporter takes beside the node agent's rows: its RSS beside that of row rss, its processor time
// beside that of row cpu.
func (e *exporter) beside(rss, cpu *row) error {
	const note = "reference: node_exporter, scraped every 10 s"
	if e == nil {
		rss.Note = "no reference: node_exporter is not installed"
		return nil
	}
	memory, err := procBytes(e.pid(), "status", "VmRSS:")
	if err != nil {
		return err
	}
	used, err := cpuSeconds(e.pid())
	if err != nil {
		return err
	}
	mibs, share := memory/mib, 100*(used-e.cpuSeconds)/time.Since(e.began).Seconds()
	rss.Reference, cpu.Reference, rss.Note, cpu.Note = &mibs, &share, note, note
	return nil
}
