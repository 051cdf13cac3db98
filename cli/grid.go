package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxColumns is how wide a table may be, but for -o wide: half a common screen, and a mail.
const maxColumns = 100

// place says where and how a column is shown.
type place int

const (
	always place = iota
	moving       // an age: it changes by itself, so that it changed is no news
	wide         // only with -o wide
)

// column is one column of a table of T.
type column[T any] struct {
	title string
	where place
	cell  func(T) string
}

// grid writes rows under one heading, page after page. A column that was wide enough stays as it is, so what comes later
// lines up with what is there; when one has to grow, the heading is written again.
type grid[T any] struct {
	w       io.Writer
	columns []column[T]
	limit   int   // 0: none
	widths  []int // nil: nothing is written yet
	fresh   bool  // the heading has not been written
	roomy   bool  // more pages follow: leave room for ages that grow
}

func newGrid[T any](w io.Writer, format string, columns []column[T]) *grid[T] {
	g := &grid[T]{w: w, limit: maxColumns, fresh: true}
	if format == "wide" {
		g.limit = 0
	}
	for _, c := range columns {
		if c.where != wide || format == "wide" {
			g.columns = append(g.columns, c)
		}
	}
	return g
}

// page writes items, under the heading where one is due.
func (g *grid[T]) page(items []T) error {
	var rows [][]string
	for _, it := range items {
		rows = append(rows, g.row(it))
	}
	var heads []string
	for _, c := range g.columns {
		heads = append(heads, c.title)
	}
	before := slices.Clone(g.widths)
	if before == nil && g.roomy {
		before = make([]int, len(g.columns))
		for i, c := range g.columns {
			if c.where == moving {
				before[i] = len("in 100m")
			}
		}
	}
	g.widths = fit(append([][]string{heads}, rows...), g.limit, before)
	if g.fresh || !slices.Equal(before, g.widths) {
		g.fresh = false
		rows = append([][]string{heads}, rows...)
	}
	return writeRows(g.w, rows, g.widths)
}

// aside writes the row of an item with a remark.
func (g *grid[T]) aside(item T, remark string) error {
	if err := g.page(nil); err != nil {
		return err
	}
	var b strings.Builder
	if err := writeRows(&b, [][]string{g.row(item)}, g.widths); err != nil {
		return err
	}
	line := clip(strings.TrimRight(b.String(), "\n"), maxColumns-len(remark)-1)
	_, err := fmt.Fprintln(g.w, line, remark)
	return err
}

func (g *grid[T]) row(item T) []string {
	var cells []string
	for _, c := range g.columns {
		cells = append(cells, cell(c.cell(item)))
	}
	return cells
}

// news is what of an item is worth a new row when it changes.
func (g *grid[T]) news(item T) string {
	var cells []string
	for i, c := range g.row(item) {
		if g.columns[i].where != moving {
			cells = append(cells, c)
		}
	}
	return strings.Join(cells, "\x00")
}

// cell is text as it stands in a table.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	return printable(text)
}

// fit returns the width of each column, at least that of before, such that a row takes limit characters at most; 0 is no
// limit. The widest columns give way, the first one last: it says what the row is about.
func fit(rows [][]string, limit int, before []int) []int {
	widths := slices.Clone(before)
	total := func() int {
		n := 2 * (len(widths) - 1)
		for _, w := range widths {
			n += w
		}
		return n
	}
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	for _, give := range []struct{ from, to, least int }{{1, len(widths), 12}, {0, 1, 24}, {1, len(widths), 5}} {
		for limit > 0 && total() > limit {
			widest := give.from
			for i := give.from; i < give.to; i++ {
				if widths[i] > widths[widest] {
					widest = i
				}
			}
			if widest >= len(widths) || widths[widest] <= give.least {
				break
			}
			widths[widest]--
		}
	}
	if len(before) > 0 {
		for i := range before { // what does not fit beside what is there is cut
			if widths[i] < before[i] {
				return before
			}
		}
	}
	return widths
}

func writeRows(w io.Writer, rows [][]string, widths []int) error {
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			c = clip(c, widths[i])
			b.WriteString(c)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-len([]rune(c))+2))
			}
		}
		if _, err := fmt.Fprintln(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// table lines up cells with two spaces between columns; a cell is never wrapped, and tabs cannot come in. limit is the
// width of a row; 0 cuts nothing off.
type table struct {
	rows  [][]string
	limit int
}

func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = cell(c)
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(w io.Writer) error { return writeRows(w, t.rows, fit(t.rows, t.limit, nil)) }
