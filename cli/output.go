package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// formats lists what -o takes.
func formats() []string { return []string{"table", "wide", "json", "yaml", "name"} }

func checkFormat(format string) error {
	if !slices.Contains(formats(), format) {
		return usage(fmt.Errorf("-o %q: wanted one of %s", format, strings.Join(formats(), ", ")))
	}
	return nil
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
	return newGrid(w, format, columns).page(items)
}

// showOne writes what a name was given for: in JSON and YAML the item itself, as kubectl does.
func showOne[T any](w io.Writer, format string, item T, name func(T) string, columns []column[T]) error {
	switch format {
	case "json":
		return writeJSON(w, item)
	case "yaml":
		return writeYAML(w, item)
	}
	return show(w, format, []T{item}, name, columns)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeYAML goes by way of JSON, so that both have the same field names. Instants are milliseconds, as everywhere; a
// comment beside each tells it in words.
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
	if len(node.Content) == 1 {
		comment(node.Content[0], reflect.ValueOf(v))
	}
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

// comment walks v beside the YAML it became and writes instants out.
func comment(n *yaml.Node, v reflect.Value) {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && !v.IsNil() {
		v = v.Elem()
	}
	if !v.IsValid() {
		return
	}
	if m, ok := v.Interface().(api.Millis); ok {
		if m != 0 {
			n.LineComment = m.Time().Format("2006-01-02T15:04:05.000Z07:00")
		}
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		for i := 0; n.Kind == yaml.SequenceNode && i < min(v.Len(), len(n.Content)); i++ {
			comment(n.Content[i], v.Index(i))
		}
	case reflect.Struct:
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			for f, field := range v.Fields() {
				if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == n.Content[i].Value {
					comment(n.Content[i+1], field)
				}
			}
		}
	}
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
		return string(r[:max(n-1, 0)]) + "…"
	}
	return s
}

// age writes how long ago m was, in the largest fitting unit, as kubectl does.
func age(now time.Time, m api.Millis) string {
	if m == 0 {
		return "-"
	}
	return agent.Span(now.Sub(m.Time()))
}

// many writes a number with its noun.
func many(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
