package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Gauge is how large a process is.
type Gauge struct {
	RSSBytes   int64   `json:"rssBytes"`
	Goroutines float64 `json:"goroutines"`
	DiskBytes  int64   `json:"diskBytes"`
}

// tierHarness is this process, with its crowd, among the gauges.
const tierHarness = "harness"

// crowded is more goroutines than a process has that had before's, and leaks none.
func crowded(before Gauge) float64 { return before.Goroutines*1.25 + 25 }

// settle gives this process, of which nothing has to be scraped, the time in which it finds out about dead connections.
func settle(ctx context.Context, before Gauge) {
	for end := time.Now().Add(agreeWithin); float64(runtime.NumGoroutine()) > crowded(before) && time.Now().Before(end); {
		if !agent.Wait(ctx, time.Second) {
			return
		}
	}
}

// gauges measures every process, and this one. What cannot be had is 0.
func (r *Rig) gauges(ctx context.Context) map[string]Gauge {
	out := map[string]Gauge{}
	for name, p := range r.tiers {
		g := Gauge{RSSBytes: p.residentBytes(), DiskBytes: p.diskBytes()}
		if name == tierCluster {
			g.Goroutines, _ = r.gauge(ctx, "go_goroutines") // 0 is told as such
		} else {
			g.Goroutines, _ = r.latest(ctx, "skerry_edge_goroutines", name)
		}
		out[name] = g
	}
	out[tierHarness] = Gauge{Goroutines: float64(runtime.NumGoroutine())}
	return out
}

// firstScrapes waits until the node agents' own metrics are in the store.
func (r *Rig) firstScrapes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	return until(ctx, "node agents report on themselves", func() error {
		for _, edge := range []string{tierEdge1, tierEdge2} {
			if v, err := r.latest(ctx, "skerry_edge_goroutines", edge); err != nil || v == 0 {
				return fmt.Errorf("%s does not: %w", edge, err)
			}
		}
		return nil
	})
}

// latest is the newest value of a series of a node.
func (r *Rig) latest(ctx context.Context, series, node string) (float64, error) {
	values, err := r.stored(ctx, series, node)
	if err != nil || len(values) == 0 {
		return 0, err
	}
	return values[len(values)-1].value, nil
}

// status asks a node agent itself, as `skerry-edge status` does.
func (r *Rig) status(ctx context.Context, name string) (edge.Status, error) {
	var st edge.Status
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(r.process(name).Disk, "run", "status.sock"))
	if err != nil {
		return st, fmt.Errorf("ask %s: %w", name, err)
	}
	err = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(conn, 1<<20)).Decode(&st)
	}
	if err := errors.Join(err, conn.Close()); err != nil {
		return st, fmt.Errorf("ask %s: %w", name, err)
	}
	return st, nil
}

// accountEdge judges the telemetry and the desired document of a node agent. What is still on its way is waited for.
func (r *Round) accountEdge(ctx context.Context, name string) error {
	var sum account.Tally
	var bad []string
	for end := time.Now().Add(15 * time.Second); ; {
		e, err := r.evidence(ctx, name)
		if err != nil {
			return err
		}
		if sum, bad = e.judge(name); len(bad) == 0 || time.Now().After(end) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
	for _, b := range bad {
		r.blame("telemetry %s", b)
	}
	t := &r.outcome.Edges
	t.Made, t.Stored, t.Missing, t.Reported = t.Made+sum.Made, t.Stored+sum.Stored, t.Missing+sum.Missing, t.Reported+sum.Reported
	var n api.Node
	if err := r.rig.site.Client.Get(ctx, "/v1/nodes/"+name, &n); err != nil {
		return err
	}
	if n.Reported == nil || n.Reported.Generation != n.Desired.Generation || n.Reported.Hash != n.Desired.Hash {
		r.blame("desired %s: wanted %+v; it reports %+v", name, n.Desired, n.Reported)
	}
	return nil
}

// awaitEnds waits until every order that was answered for has ended in the word of the cluster agent.
func (r *Round) awaitEnds(ctx context.Context, orders []account.Order) error {
	ctx, cancel := context.WithTimeout(ctx, orderWithin+30*time.Second)
	defer cancel()
	err := until(ctx, "all commands have ended", func() error {
		var st api.ClusterStatus
		if err := r.rig.site.Client.Get(ctx, "/v1/status", &st); err != nil {
			return err
		}
		if st.Open > 0 {
			return fmt.Errorf("%d of %d are open", st.Open, len(orders))
		}
		return nil
	})
	if err != nil {
		r.blame("after the faults: %v", err)
	}
	return nil
}
