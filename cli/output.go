package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/api"
)

// formats lists what -o takes.
var formats = []string{"table", "wide", "json", "yaml", "name"}

func checkFormat(format string) error {
	if !slices.Contains(formats, format) {
		return usage(fmt.Errorf("-o %q: wanted one of %s", format, strings.Join(formats, ", ")))
	}
	return nil
}

// column is one column of a table of T.
type column[T any] struct {
	title string
	wide  bool // only with -o wide
	cell  func(T) string
}

// show writes items as format says. name gives the line of -o name.
func show[T any](w io.Writer, format string, items []T, name func(T) string, columns []column[T]) error {
	switch format {
	case "json":
		return writeJSON(w, api.List[T]{Items: items})
	case "yaml":
		return writeYAML(w, api.List[T]{Items: items})
	case "name":
		for _, it := range items {
			if _, err := fmt.Fprintln(w, name(it)); err != nil {
				return err
			}
		}
		return nil
	}
	t := &table{}
	var heads []string
	for _, c := range columns {
		if !c.wide || format == "wide" {
			heads = append(heads, c.title)
		}
	}
	t.add(heads...)
	for _, it := range items {
		var cells []string
		for _, c := range columns {
			if !c.wide || format == "wide" {
				cells = append(cells, c.cell(it))
			}
		}
		t.add(cells...)
	}
	return t.write(w)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeYAML goes by way of JSON, so that both have the same field names.
func writeYAML(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(raw, &node); err != nil { // JSON is YAML
		return err
	}
	plain(&node)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return err
	}
	return enc.Close()
}

// plain drops the flow style and quotes that the JSON text had.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}

// table lines up cells with two spaces between columns; a cell is never wrapped, and tabs cannot come in.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) {
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		cells[i] = printable(c)
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(w io.Writer) error {
	var width []int
	for _, r := range t.rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, r := range t.rows {
		var b strings.Builder
		for i, c := range r {
			b.WriteString(c)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-len([]rune(c))+2))
			}
		}
		if _, err := fmt.Fprintln(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// printable replaces control characters: what a node says must not move the reader's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
}

// clip shortens s to n characters.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// age writes how long ago m was, in the largest fitting unit, as kubectl does.
func age(now time.Time, m api.Millis) string {
	if m == 0 {
		return "-"
	}
	return span(now.Sub(m.Time()))
}

func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// size writes bytes with a binary unit.
func size(n float64) string {
	for _, u := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			if u == "B" {
				return fmt.Sprintf("%.0f B", n)
			}
			return fmt.Sprintf("%.1f %s", n, u)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.1f TiB", n)
}
