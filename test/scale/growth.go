package scale

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Growth is how one cluster agent was at several sizes. It is what the plots are made of.
type Growth struct {
	At      string  `json:"at"` // date, or from one to another
	Machine string  `json:"machine"`
	Version string  `json:"version"` // of the cluster agent that was measured
	Load    string  `json:"load,omitempty"`
	Points  []*Load `json:"points"`
}

// ReadGrowth reads what an earlier run wrote.
func ReadGrowth(path string) (*Growth, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read growth: %w", err)
	}
	g := &Growth{}
	if err := json.Unmarshal(raw, g); err != nil {
		return nil, fmt.Errorf("read growth %s: %w", path, err)
	}
	if len(g.Points) == 0 {
		return nil, fmt.Errorf("read growth %s: points: none; wanted one for each size", path)
	}
	return g, nil
}

// Write writes g for people to read and for ReadGrowth. What was there before stays whole until all of g is written.
func (g *Growth) Write(path string) error {
	raw, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write growth: %w", err)
	}
	return os.Rename(path+".new", path)
}

// curve is one figure of all sizes.
type curve struct {
	name string
	unit string
	of   func(l *Load) float64
	// limit is where it stops on a machine of the budget's size; 0: nowhere.
	limit float64
	stop  string // what then happens
}

// curves are what is plotted and what is carried on to sizes that were not measured.
func curves() []curve {
	restart := func(of func(r *Restart) float64) func(l *Load) float64 {
		return func(l *Load) float64 {
			if l.Restart == nil {
				return 0
			}
			return of(l.Restart)
		}
	}
	const mib, milli = 1 << 20, 1000
	return []curve{
		{"Memory (RSS)", "MiB", func(l *Load) float64 { return float64(l.Hold.RSSBytes) / mib }, 2048, "the limit of 2 GiB is reached"},
		{"Processor", "% of a core", func(l *Load) float64 { return l.Hold.CPU }, 100, "the core is full"},
		{"Ingest to PUBACK, p50", "ms", func(l *Load) float64 { return milli * l.IngestP50 }, 0, ""},
		{"Ingest to PUBACK, p99", "ms", func(l *Load) float64 { return milli * l.IngestP99 }, 0, ""},
		{"Enrolment", "a second", func(l *Load) float64 { return l.EnrolRate }, 0, ""},
		{"Command, p50", "ms", func(l *Load) float64 { return milli * l.CommandP50 }, 0, ""},
		{"Command, p99", "ms", func(l *Load) float64 { return milli * l.CommandP99 }, 0, ""},
		{"Restart: REST serves", "s", restart(func(r *Restart) float64 { return r.Serves }), 0, ""},
		{"Restart: 95 % are back", "s", restart(func(r *Restart) float64 { return r.Most }), 120, "95 % need more than two minutes"},
		{"Restart: backlog is gone", "s", restart(func(r *Restart) float64 { return r.Drained }), 0, ""},
	}
}

// slope is the line of least squares through a curve: its value without nodes, and what each node adds.
func (c *curve) slope(points []*Load) (base, each float64) {
	n := float64(len(points))
	var sx, sy, sxx, sxy float64
	for _, l := range points {
		x, y := float64(l.Nodes), c.of(l)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d != 0 {
		each = (n*sxy - sx*sy) / d
	}
	return (sy - each*sx) / n, each
}
