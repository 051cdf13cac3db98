package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Gauge is how large a process is.
type Gauge struct {
	RSSBytes   int64   `json:"rssBytes"`
	Goroutines float64 `json:"goroutines"`
	DiskBytes  int64   `json:"diskBytes"`
	HeapBytes  float64 `json:"heapBytes,omitempty"`  // of the cluster agent: what its last garbage collection left, about
	HeadSeries float64 `json:"headSeries,omitempty"` // of the cluster agent: those that the telemetry's store has in memory
}

// tierHarness is this process, with its crowd, among the gauges.
const tierHarness = "harness"

// noise is by how much a process may be larger than before the faults, and leak nothing: a small one by little.
type noise struct {
	times, more         float64 // goroutines: so many times those before, and so many more
	timesRSS, moreBytes float64
}

// noiseOf is that of a tier. A hundred schedules of 2026-11-28 had node agents of 13 MiB and 36 goroutines move by 1.5 MiB and,
// for a moment, by 12 goroutines; the cluster agent by 8 MiB and 21 of a hundred.
func noiseOf(tier string) noise {
	if tier == tierCluster || tier == tierHarness {
		return noise{times: 1.25, more: 25, timesRSS: 1.5, moreBytes: 48 << 20}
	}
	return noise{times: 1, more: 8, timesRSS: 1, moreBytes: 8 << 20}
}

// grown tells which processes are larger than noise explains, or of which nobody knows how large they are.
func grown(before, after map[string]Gauge) (bad []string) {
	for _, tier := range slices.Sorted(maps.Keys(before)) {
		b, a, n := before[tier], after[tier], noiseOf(tier)
		if a.Goroutines == 0 || a.RSSBytes == 0 && tier != tierHarness {
			bad = append(bad, fmt.Sprintf("%s: nothing tells how large it is: %.0f goroutines, %d MiB resident", tier, a.Goroutines, a.RSSBytes>>20))
			continue
		}
		if a.Goroutines > b.Goroutines*n.times+n.more {
			bad = append(bad, fmt.Sprintf("%s has %.0f goroutines, before the faults %.0f", tier, a.Goroutines, b.Goroutines))
		}
		if float64(a.RSSBytes) > float64(b.RSSBytes)*n.timesRSS+n.moreBytes {
			bad = append(bad, fmt.Sprintf("%s has %d MiB resident, before the faults %d", tier, a.RSSBytes>>20, b.RSSBytes>>20))
		}
	}
	return bad
}

// mark is from when on a gauge counts: in a node agent's row in which the ticker's series is at least so high.
type mark struct {
	series string
	least  map[string]float64 // by node agent
}

// gauges measures every process, and this one. What cannot be had is 0, and an error.
func (r *Rig) gauges(ctx context.Context, from mark) (map[string]Gauge, error) {
	out := map[string]Gauge{}
	var errs []error
	for name, p := range r.tiers {
		g := Gauge{RSSBytes: p.residentBytes(), DiskBytes: p.diskBytes()}
		var err error
		if name == tierCluster {
			err = r.measureCluster(ctx, &g)
		} else {
			g.Goroutines, err = r.beside(ctx, "skerry_edge_goroutines", name, from)
		}
		if err == nil && g.RSSBytes == 0 {
			err = errors.New("it does not run")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("measure %s: %w", name, err))
		}
		out[name] = g
	}
	out[tierHarness] = Gauge{Goroutines: float64(runtime.NumGoroutine())}
	return out, errors.Join(errs...)
}

func (r *Rig) measureCluster(ctx context.Context, g *Gauge) error {
	var errs [3]error
	g.Goroutines, errs[0] = r.gauge(ctx, "go_goroutines")
	g.HeadSeries, errs[1] = r.gauge(ctx, "skerry_telemetry_head_series")
	next, err := r.gauge(ctx, "go_memstats_next_gc_bytes")
	g.HeapBytes, errs[2] = next/2, err // the next is due at twice what is left
	return errors.Join(errs[:]...)
}

// before measures everything once the node agents have reported on themselves in this round.
func (r *Round) before(ctx context.Context) (g map[string]Gauge, err error) {
	from := mark{tickSeries, map[string]float64{}}
	for edge, n := range r.since {
		from.least[edge] = float64(n + 1)
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	err = until(ctx, "all processes can be measured", func() error {
		g, err = r.rig.gauges(ctx, from)
		return err
	})
	return g, err
}

// after measures everything once all is healed, and gives it the time in which it finds out about dead connections. What still
// cannot be had then stays 0, which grown tells.
func (r *Round) after(ctx context.Context) (g map[string]Gauge, err error) {
	from := mark{calmSeries, map[string]float64{}}
	for edge, t := range r.rig.ticks {
		from.least[edge] = float64(t.calms())
	}
	wait, cancel := context.WithTimeout(ctx, agreeWithin)
	defer cancel()
	late := until(wait, "all processes are as before", func() error {
		now, err := r.rig.gauges(wait, from)
		if wait.Err() == nil || g == nil { // of what was asked in vain at the end nothing is known
			g = now
		}
		if bad := grown(r.outcome.Before, g); err == nil && len(bad) > 0 {
			err = errors.New(strings.Join(bad, "; "))
		}
		return err
	})
	if late != nil {
		r.rig.cfg.Say("%v", late)
	}
	return g, ctx.Err()
}

// beside is the newest value of a series of a node, of the rows that count. By their dates alone nobody could tell: a clock
// that was wrong dates rows ahead, and rows that were put off come late.
func (r *Rig) beside(ctx context.Context, series, node string, from mark) (float64, error) {
	values, err := r.stored(ctx, series, node)
	if err != nil {
		return 0, err
	}
	marks, err := r.stored(ctx, from.series, node)
	if err != nil {
		return 0, err
	}
	return newestBeside(values, marks, from.least[node])
}

func newestBeside(values, marks []reading, least float64) (float64, error) {
	counts := map[int64]bool{}
	for _, m := range marks {
		counts[m.at.UnixMilli()] = m.value >= least
	}
	newest := reading{value: math.NaN()}
	for _, v := range values {
		if counts[v.at.UnixMilli()] && !v.at.Before(newest.at) {
			newest = v
		}
	}
	if math.IsNaN(newest.value) {
		return 0, fmt.Errorf("of %d rows none is new enough", len(values))
	}
	return newest.value, nil
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
