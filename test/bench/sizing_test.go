package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	figure   = regexp.MustCompile(`[0-9][0-9,]*(\.[0-9]+)?`)
	verdicts = regexp.MustCompile(`^(ok|missed|not measured)\b`)
)

// figures are the numbers of a cell.
func figures(t *testing.T, cell string) []float64 {
	t.Helper()
	var out []float64
	for _, text := range figure.FindAllString(cell, -1) {
		v, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
		if err != nil {
			t.Fatalf("%q: %v", cell, err)
		}
		out = append(out, v)
	}
	return out
}

// sizingRows are the rows of the table of all budgets.
func sizingRows(t *testing.T) [][]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "sizing.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(raw), "## All budgets\n")
	if !ok {
		t.Fatal("docs/sizing.md has no table of all budgets")
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	var rows [][]string
	for line := range strings.Lines(section) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| ---") {
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		}
	}
	return rows[1:] // without the titles
}

func TestTheTableOfAllBudgetsJudgesByItsFigures(t *testing.T) {
	for _, r := range sizingRows(t) {
		if len(r) != 6 {
			t.Errorf("%v: %d cells; wanted 6", r, len(r))
			continue
		}
		budget, measured, told, date, command := r[1], figures(t, r[2]), verdicts.FindString(r[3]), r[4], r[5]
		if told == "not measured" {
			if len(measured) > 0 || date != "" || r[3] == told {
				t.Errorf("%s: not measured, with figure %q and date %q, %q; wanted neither, and the reason", r[0], r[2], date, r[3])
			}
			continue
		}
		if _, err := time.Parse(time.DateOnly, date); err != nil || command == "" || len(measured) == 0 {
			t.Errorf("%s: figure %q, date %q, command %q; wanted all three", r[0], r[2], date, command)
			continue
		}
		held := true
		for _, v := range measured {
			held = held && (strings.HasPrefix(budget, "≤") && v <= figures(t, budget)[0] || strings.HasPrefix(budget, "≥") && v >= figures(t, budget)[0])
		}
		if want := map[bool]string{true: "ok", false: "missed"}[held]; told != want {
			t.Errorf("%s: %s with a budget of %s is told as %q; wanted %q", r[0], r[2], budget, r[3], want)
		}
	}
}

func TestTheTableOfAllBudgetsHasEveryOneAndSaysWhyItIsMissed(t *testing.T) {
	all := map[string]bool{}
	for _, r := range sizingRows(t) {
		if all[r[1]] = true; strings.HasPrefix(r[3], "missed") && !strings.Contains(r[3], "](") {
			t.Errorf("%s is missed, and no link says why", r[0])
		}
	}
	for _, budget := range []string{"≤ 8 MiB", "≤ 18 MiB", "≤ 12 MiB", "≤ 10 MiB", "≤ 16 MiB", "≤ 0.1 % of a core", "≤ 2,048 MiB", "≤ 100 % of a core",
		"≤ 45 KiB", "≥ 0.7 of it", "≤ 3 times it", "≤ 120 s", "≤ 1,000 ms", "≤ a sample + 20 ms"} {
		if !all[budget] {
			t.Errorf("no row with a budget of %q", budget)
		}
	}
}
