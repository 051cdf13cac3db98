package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/test/scale"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// widest are rows with the longest of everything that a measurement makes.
func widest() []row {
	l := &scale.Load{Nodes: 100_000, Online: 1, IdleEach: 123456, PerNode: 1e6, Samples: &account.Tally{}, Restart: &scale.Restart{Most: 1234, All: -1, Serves: 100}}
	for _, what := range []string{"PromQL average, 5 minutes in steps of 30 s", "averylongwordthatnobodycanbreakbutthetablehasto"} {
		l.Queries = append(l.Queries, scale.Query{What: what, Seconds: 1234.5})
	}
	rows := crowdRows(l, 1)
	reference := 41234.0
	return append(rows, ratioOf(row{What: "ingest, stored before PUBACK", Measured: 142_400, Unit: "batches/s"}, reference, 0.725,
		func(ratio, budget float64) bool { return ratio >= budget }),
		explained(ratioOf(row{What: "  exec true, state on this disk, p99", Measured: 12.34, Unit: "ms"}, 0.00123, 3, func(a, b float64) bool { return a <= b }), "ADR 14"),
		atMost("edge CPU", 0.0789, 0.1, "% of a core"))
}

func TestTheTableHasAHundredColumnsAndHidesNothing(t *testing.T) {
	rows := widest()
	for i := range rows {
		rows[i].Command = "go run ./test/bench -only scale"
	}
	rows[len(rows)-1].Command = "go run ./test/bench -only edge -minutes=1"
	var out bytes.Buffer
	if err := show(&out, rows, false); err != nil {
		t.Fatal(err)
	}
	table, legend, ok := strings.Cut(out.String(), "CMD 1: ")
	if !ok {
		t.Fatalf("no commands under the table:\n%s", &out)
	}
	for line := range strings.Lines(table) {
		if n := len(strings.TrimSuffix(line, "\n")); n > 100 || strings.HasSuffix(line, " \n") {
			t.Errorf("%d columns, or spaces at the end: %q", n, line)
		}
	}
	if n := strings.Count(table, missed); n != 4 {
		t.Errorf("%d misses are shown; wanted 4\n%s", n, table)
	}
	flat := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"100000 nodes: PromQL average, 5 1234500 ms", "1 100000 nodes: offline at any time", "2 edge CPU", "why: ADR 14"} {
		if !strings.Contains(flat, want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if !strings.HasPrefix(legend, "go run ./test/bench -only scale\nCMD 2: go run ./test/bench -only edge -minutes=1\n") {
		t.Errorf("the commands are %q", legend)
	}
}

func TestTheCommandBesideAFigureHasTheFlagsThatWereGiven(t *testing.T) {
	for args, want := range map[string]string{
		"-only size": "go run ./test/bench -only size",
		"-only size -nodes 300 -minutes 0.5 -o json": "go run ./test/bench -only size -minutes=0.5 -nodes=300",
		"-short -bin . -only=size,edge":              "go run ./test/bench -only size -bin=. -short=true",
	} {
		o, err := parse(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		o.only, o.say, o.bin = []string{"size"}, &bytes.Buffer{}, t.TempDir()
		writeProgram(t, o.bin, lite)
		writeProgram(t, o.bin, full)
		rows, err := measure(context.Background(), o)
		if err != nil || len(rows) != 2 || rows[0].Command != want || rows[1].Command != want {
			t.Errorf("%s: %+v, %v; wanted %q beside both", args, rows, err, want)
		}
		// It is a command: the flags are taken again, and mean the same.
		again, err := parse(strings.Fields(strings.TrimPrefix(want, "go run ./test/bench ")))
		if err != nil || again.minutes != o.minutes || again.nodes != o.nodes || again.short != o.short || again.given != o.given {
			t.Errorf("%q is read as %+v, %v; wanted %+v", want, again, err, o)
		}
	}
}

// A budget that skerry-scale judges has to be judged here too, or a miss would be seen there alone.
func TestEveryBudgetOfSkerryScaleIsARow(t *testing.T) {
	l := &scale.Load{Nodes: 1, Online: 1, Samples: &account.Tally{}, Restart: &scale.Restart{}}
	var here, there []float64
	for _, r := range crowdRows(l, 1) {
		if r.Budget != nil {
			here = append(here, *r.Budget)
		}
	}
	for _, r := range l.Rows() {
		if r.Budget != nil {
			there = append(there, *r.Budget)
		}
	}
	for _, budget := range there {
		if !slices.Contains(here, budget) {
			t.Errorf("a budget of %v is not judged; wanted all of %v, have %v", budget, there, here)
		}
	}
	l.Hold = scale.Phase{CPU: 101, RSSMost: 3 << 30, Seconds: time.Minute.Seconds()}
	raw, err := json.Marshal(crowdRows(l, 1))
	if n := strings.Count(string(raw), `"verdict":"MISSED"`); err != nil || n != 2 {
		t.Errorf("%d misses, %v; wanted processor and memory\n%s", n, err, raw)
	}
}

func writeProgram(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
}
