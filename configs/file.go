package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// entry is a mapping below a list. viper, which writes keys small, leaves this type alone: the names of environment
// variables are somebody else's.
type entry map[string]any

// readFile returns the settings of a file, without what is a fault in it.
func (l *loader) readFile(src Source, of reflect.Type) map[string]any {
	if src.File == "" {
		return nil
	}
	raw, err := os.ReadFile(src.File)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !src.Required:
		return nil
	case err != nil:
		l.bad = append(l.bad, fmt.Errorf("read configuration: %w", err))
		return nil
	case len(raw) > maxFileBytes:
		l.add(src.File, fmt.Sprint(len(raw), " bytes"), fmt.Sprint("at most ", maxFileBytes))
		return nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		l.bad = append(l.bad, syntax(src.File, err))
		return nil
	}
	if doc.Kind == 0 || len(doc.Content) == 0 { // nothing but comments
		return nil
	}
	l.file = src.File
	return l.section("", doc.Content[0], of)
}

// syntax is an error of the YAML reader with its line, which it leaves out when that is the first.
func syntax(file string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if !strings.HasPrefix(text, "line ") {
		text = "line 1: " + text
	}
	return fmt.Errorf("parse %s: %s", file, text)
}

// section reads a mapping whose keys are the fields of a struct.
func (l *loader) section(prefix string, n *yaml.Node, of reflect.Type) map[string]any {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		l.at(strings.TrimSuffix(prefix, "."), n.Line)
		l.add(strings.TrimSuffix(prefix, "."), plain(n), "a section with "+keysOf(of))
		return nil
	}
	out := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := strings.ToLower(name.Value)
		if before, twice := l.lines[prefix+key]; twice {
			l.bad = append(l.bad, Fault{Field: prefix + key, Wanted: fmt.Sprintf("it once; it is at line %d too", before), Where: l.place(name.Line), line: name.Line})
			continue
		}
		l.at(prefix+key, name.Line)
		t, known := fieldOf(of, key)
		switch {
		case !known:
			l.unknown(prefix + key)
		case t.Kind() == reflect.Struct:
			if inner := l.section(prefix+key+".", value, t); inner != nil {
				out[key] = inner
			}
		default:
			if x := l.leaf(prefix+key, value, t); x != nil {
				out[key] = x
			}
		}
	}
	return out
}

// leaf reads a value that is no section; the entries of a list have keys of their own.
func (l *loader) leaf(key string, n *yaml.Node, t reflect.Type) any {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		out := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", key, i)
			l.at(at, item.Line)
			if item.Kind == yaml.MappingNode {
				out = append(out, entry(l.section(at+".", item, t.Elem())))
			} else {
				out = append(out, plain(item))
			}
		}
		return out
	case n.Kind == yaml.MappingNode:
		out := entry{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			l.at(key+"."+n.Content[i].Value, n.Content[i].Line)
			out[n.Content[i].Value] = plain(n.Content[i+1])
		}
		return out
	}
	return plain(n)
}

// plain is a scalar or a list of them; what else there may be has the wrong type wherever it stands.
func plain(n *yaml.Node) any {
	var out any
	if err := n.Decode(&out); err != nil {
		return n.Value
	}
	return out
}
