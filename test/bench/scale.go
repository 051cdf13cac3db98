package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/skerry-edge/skerry/test/scale"
)

// crowd puts simulated nodes on a cluster agent, kills it under them, and counts every sample. It is `make bench-scale` made
// short: neither is the cluster agent held to a core here, nor its memory limited.
func crowd(ctx context.Context, o options) ([]row, error) {
	minutes := min(1, o.minutes)
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "skerry-scale"), "storm", "--nodes", strconv.Itoa(o.nodes),
		"--minutes", strconv.FormatFloat(minutes, 'g', -1, 64), "--cluster", filepath.Join(o.bin, "skerry-cluster"),
		"--dir", filepath.Join(o.dir, "scale"), "--memory", "0", "--cluster-cpu", "-1", "--swarm-cpu", "-1", "-o", "json")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, o.say
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == scale.ExitMissed { // a budget of its own, which is one of our rows too
		err = nil
	}
	var l scale.Load
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &l)
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	if l.Restart == nil || l.Samples == nil {
		return nil, fmt.Errorf("run %s: no storm and no account in its answer", cmd.Path)
	}
	return crowdRows(&l, minutes), nil
}

// crowdRows are the figures of l that a budget of the design speaks of, and those that a user asks for.
func crowdRows(l *scale.Load, minutes float64) []row {
	name := func(what string) string { return fmt.Sprintf("%d nodes: %s", l.Nodes, what) }
	rows := []row{
		atMost(name("offline at any time"), float64(l.Nodes-l.Online), 0, "nodes"),
		atMost(name("cluster RSS, most"), float64(l.Hold.RSSMost)/mib, 2048, "MiB"),
		atMost(name("cluster RSS for each idle, with its record"), l.IdleEach/kib, connectionBudget, "KiB"),
		fact(name("cluster RSS for each under load"), l.PerNode/kib, "KiB"),
		atMost(name("cluster CPU"), l.Hold.CPU, 100, "% of a core"),
		fact(name("enrolment"), l.EnrolRate, "1/s"),
		fact(name("ingest to PUBACK, p50"), 1000*l.IngestP50, "ms"),
		fact(name("ingest to PUBACK, p99"), 1000*l.IngestP99, "ms"),
		fact(name("command over REST, p99"), 1000*l.CommandP99, "ms"),
	}
	rows[0].Note = fmt.Sprintf("20 series each every 30 s for %g minutes", minutes)
	for _, q := range l.Queries {
		rows = append(rows, fact(name(q.What), 1000*q.Seconds, "ms"))
	}
	back := atMost(name("kill -9, 95 % are back"), l.Restart.Most, 120, "s")
	if l.Restart.Most < 0 {
		back.Verdict = missed
	}
	unaccounted := math.Max(0, float64(l.Samples.Missing)-float64(l.Samples.Reported))
	return append(rows, fact(name("kill -9, REST serves"), l.Restart.Serves, "s"), back, fact(name("kill -9, all are back"), l.Restart.All, "s"),
		atMost(name("samples unaccounted"), unaccounted, 0, ""))
}
