package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// grower is a door whose storms are made up: sizes in broken fail. It returns the path of the results too, and the sizes
// that were measured.
type grower struct {
	Door
	out      bytes.Buffer
	dir      string
	broken   map[int]bool
	each     float64 // memory of an idle connection
	measured []int
}

func newGrower(t *testing.T, version string) *grower {
	g := &grower{dir: t.TempDir(), each: 40 << 10}
	g.Out, g.Err = &g.out, &g.out
	g.storm = func(_ context.Context, cfg Config, _ time.Duration) (*Load, error) {
		if g.broken[cfg.Nodes] {
			return nil, errors.New("the disk is full")
		}
		g.measured = append(g.measured, cfg.Nodes)
		l := growth(cfg.Nodes).Points[0]
		l.Online, l.IdleEach = l.Nodes, g.each
		return l, nil
	}
	g.version(t, version)
	return g
}

// version has a program say its version as skerry-cluster does.
func (g *grower) version(t *testing.T, version string) {
	script := fmt.Sprintf("#!/bin/sh\necho 'skerry-cluster %s (commit abc, go1.26.8 linux/amd64)'\n", version)
	if err := os.WriteFile(filepath.Join(g.dir, "cluster"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (g *grower) file() string { return filepath.Join(g.dir, "growth.json") }

func (g *grower) grow(t *testing.T, args ...string) int {
	g.out.Reset()
	g.measured = nil
	return g.Main(t.Context(), append([]string{"growth", "--cluster", filepath.Join(g.dir, "cluster"), "--dir", g.dir, "--out", g.file(),
		"--swarm-cpu", "-1", "--minutes", "1"}, args...))
}

// sizes are those of the file.
func (g *grower) sizes(t *testing.T) string {
	got, err := ReadGrowth(g.file())
	if err != nil {
		t.Fatalf("%v\n%s", err, &g.out)
	}
	var out []int
	for _, l := range got.Points {
		out = append(out, l.Nodes)
	}
	return fmt.Sprint(out)
}

func TestASizeThatFailsLeavesThoseBeforeAndCanBeAdded(t *testing.T) {
	g := newGrower(t, "v1")
	g.broken = map[int]bool{5000: true}
	if code := g.grow(t, "--sizes", "100,1000,5000,10000"); code != ExitFailed {
		t.Errorf("exit code %d; wanted %d\n%s", code, ExitFailed, &g.out)
	}
	if got := g.sizes(t); got != "[100 1000]" {
		t.Errorf("%s are kept; wanted 100 and 1000", got)
	}
	if svg, err := os.ReadFile(filepath.Join(g.dir, "growth.svg")); err != nil || !bytes.Contains(svg, []byte(">1000<")) {
		t.Errorf("no plot of what was measured: %v", err)
	}
	for _, want := range []string{"5000 nodes: the disk is full", "--add goes on", "Memory (RSS)"} {
		if !strings.Contains(g.out.String(), want) {
			t.Errorf("no word of %q in\n%s", want, &g.out)
		}
	}
	g.broken = nil
	if code := g.grow(t, "--sizes", "10000,1000,5000", "--add"); code != ExitOK {
		t.Errorf("exit code %d; wanted %d\n%s", code, ExitOK, &g.out)
	}
	if got := g.sizes(t); got != "[100 1000 5000 10000]" || fmt.Sprint(g.measured) != "[10000 5000]" {
		t.Errorf("%s are kept, %v were measured; wanted all four, and only the two that were missing", got, g.measured)
	}
}

func TestFiguresOfAnotherVersionOrLoadAreNotAddedTo(t *testing.T) {
	g := newGrower(t, "v1")
	if code := g.grow(t, "--sizes", "100"); code != ExitOK {
		t.Fatalf("exit code %d\n%s", code, &g.out)
	}
	before, err := os.ReadFile(g.file())
	if err != nil {
		t.Fatal(err)
	}
	g.version(t, "v2")
	if code := g.grow(t, "--sizes", "1000", "--add", "--series", "5"); code != ExitFailed {
		t.Errorf("exit code %d; wanted %d", code, ExitFailed)
	}
	for _, want := range []string{`version of`, `is "v1", now it is "v2"`, `load of`, `"5 series every`} {
		if !strings.Contains(g.out.String(), want) {
			t.Errorf("no word of %q in\n%s", want, &g.out)
		}
	}
	if after, err := os.ReadFile(g.file()); err != nil || !bytes.Equal(before, after) || g.measured != nil {
		t.Errorf("%v was measured, %v; wanted nothing, and the file as it was", g.measured, err)
	}
	g.version(t, "v1")
	if _, err := (&Growth{Machine: "another", Version: "v1"}).begun(g.file(), true); err == nil || !strings.Contains(err.Error(), "machine of") {
		t.Errorf("figures of another machine: %v", err)
	}
}

func TestGrowthThatMissesABudgetSaysSoWithItsExitCode(t *testing.T) {
	g := newGrower(t, "v1")
	g.each = 100 << 10
	if code := g.grow(t, "--sizes", "100"); code != ExitMissed {
		t.Errorf("exit code %d; wanted %d", code, ExitMissed)
	}
	if want := "MISSED at 100 nodes: cluster RSS for each idle connection, 100 KiB; budget 45"; !strings.Contains(g.out.String(), want) {
		t.Errorf("no %q in\n%s", want, &g.out)
	}
	if got := g.sizes(t); got != "[100]" {
		t.Errorf("%s are kept; wanted what was measured", got)
	}
}
