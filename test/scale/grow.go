package scale

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// growth measures each size with a cluster agent of its own: the load for hold, then a restart after kill -9. Every size
// is written as soon as it is there, since the next one may fail after an hour.
func (d *Door) growth(ctx context.Context, f *flags, cfg Config, hold time.Duration) (bool, error) {
	fresh, err := newGrowth(ctx, cfg, hold)
	if err != nil {
		return false, err
	}
	g, err := fresh.begun(f.out, f.add)
	if err != nil {
		return false, err
	}
	for _, n := range f.sizes {
		if g.has(n) {
			cfg.Say("%d nodes are in %s already", n, f.out)
			continue
		}
		var l *Load
		if l, err = d.size(ctx, cfg, n, hold); err != nil {
			err = fmt.Errorf("%d nodes: %w", n, err)
			break
		}
		g.take(l)
		if err = errors.Join(g.Write(f.out), g.draw(f.out)); err != nil {
			break
		}
		cfg.Say("%d nodes are written to %s", n, f.out)
	}
	if len(g.Points) == 0 {
		return false, err
	}
	ok, serr := d.tellGrowth(f, g)
	if err != nil {
		err = fmt.Errorf("%w (what was measured before is in %s; --add goes on)", err, f.out)
	}
	return ok, errors.Join(err, serr)
}

// size measures n nodes. Enrolment is part of what is measured: nobody has certificates yet.
func (d *Door) size(ctx context.Context, cfg Config, n int, hold time.Duration) (*Load, error) {
	storm := d.storm
	if storm == nil {
		storm = RunStorm
	}
	cfg.Nodes, cfg.Dir = n, filepath.Join(cfg.Dir, fmt.Sprint("growth-", n))
	if err := os.RemoveAll(cfg.Dir); err != nil {
		return nil, fmt.Errorf("begin anew: %w", err)
	}
	return storm(ctx, cfg, hold)
}

func (d *Door) tellGrowth(f *flags, g *Growth) (bool, error) {
	if err := g.show(d.Out, f.projectedSize); err != nil {
		return false, err
	}
	return g.missed(d.Out), nil
}

// newGrowth is one without figures: where, of what and under which load they are to be measured.
func newGrowth(ctx context.Context, cfg Config, hold time.Duration) (*Growth, error) {
	line, err := exec.CommandContext(ctx, cfg.Program, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its version: %w", cfg.Program, err)
	}
	words := strings.Fields(string(line)) // NAME VERSION (commit …)
	if len(words) < 2 {
		return nil, fmt.Errorf("ask %s for its version: %q", cfg.Program, line)
	}
	load := fmt.Sprintf("%d series every %s for %s, %g connects a second, memory %d MiB", cfg.Series, cfg.Cadence, hold, cfg.Rate, cfg.Memory>>20)
	if cfg.CPU < 0 {
		load += ", any processor"
	}
	if len(cfg.Settings) > 0 {
		load += ", with " + strings.Join(cfg.Settings, " ")
	}
	return &Growth{At: time.Now().UTC().Format(time.DateOnly), Machine: machine(), Version: words[1], Load: load}, nil
}

// machine describes processor and memory, proc(5).
func machine() string {
	cpu, err1 := os.ReadFile("/proc/cpuinfo")
	memory, err2 := os.ReadFile("/proc/meminfo")
	if errors.Join(err1, err2) != nil {
		return "unknown"
	}
	var kib float64
	if _, err := fmt.Sscan(field(string(memory), "MemTotal"), &kib); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%s, %d processors, %.0f GiB", field(string(cpu), "model name"), runtime.NumCPU(), kib/(1<<20))
}

// begun is g, with what path holds already when it is to be added to. Figures of another machine, version or load are
// not: a line through them would show the difference, not the growth.
func (g *Growth) begun(path string, add bool) (*Growth, error) {
	if !add {
		return g, nil
	}
	old, err := ReadGrowth(path)
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	}
	if err != nil {
		return nil, err
	}
	var bad []error
	for _, same := range []struct{ what, old, now string }{{"machine", old.Machine, g.Machine}, {"version", old.Version, g.Version}, {"load", old.Load, g.Load}} {
		if same.old != same.now {
			bad = append(bad, fmt.Errorf("--add: %s of %s is %q, now it is %q; measure all sizes anew, or into another --out", same.what, path, same.old, same.now))
		}
	}
	if first, _, _ := strings.Cut(old.At, " "); first != g.At {
		old.At = first + " to " + g.At
	}
	return old, errors.Join(bad...)
}

func (g *Growth) has(nodes int) bool {
	return slices.ContainsFunc(g.Points, func(l *Load) bool { return l.Nodes == nodes })
}

// take adds a size, in order.
func (g *Growth) take(l *Load) {
	g.Points = append(g.Points, l)
	slices.SortFunc(g.Points, func(a, b *Load) int { return cmp.Compare(a.Nodes, b.Nodes) })
}

// missed tells the budgets that are missed at each size, and returns whether there are none.
func (g *Growth) missed(w io.Writer) (ok bool) {
	ok = true
	for _, l := range g.Points {
		for _, r := range l.Rows() {
			if r.OK {
				continue
			}
			ok = false
			line := fmt.Sprintf("MISSED at %d nodes: %s, %s %s", l.Nodes, r.What, number(r.Measured), r.Unit)
			if r.Budget != nil {
				line += "; budget " + number(*r.Budget)
			}
			fmt.Fprintln(w, line)
		}
	}
	return ok
}

// draw writes the plot beside the file of the figures.
func (g *Growth) draw(path string) error {
	return os.WriteFile(strings.TrimSuffix(path, filepath.Ext(path))+".svg", g.SVG(), 0o644)
}

// origin is what the figures are of, for people.
func (g *Growth) origin() string {
	out := g.At + ", " + g.Machine + ", " + g.Version
	if g.Load != "" {
		out += "; " + g.Load
	}
	return out
}
