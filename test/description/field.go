// Package description reads what tests know of the MLSysOps framework's descriptions: the fields of each kind and samples
// with their outcome (test/crd/testdata). Tests of the schemas and tests of a real API server give them the same objects.
package description

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Kinds are those whose fields the framework defines.
var Kinds = []string{"MLSysOpsApp", "MLSysOpsNode", "MLSysOpsCluster", "MLSysOpsContinuum", "MLSysOpsDatacenter"}

// Field is one field of a kind, or, without a name, a kind itself.
type Field struct {
	Name     string
	Required bool
	List     bool     // of what follows
	Type     string   // string, number, integer, boolean or object
	Words    []string // the only ones that the framework allows; none: any
	Fields   []*Field // of an object
}

var fieldLine = regexp.MustCompile(`^( *)([A-Za-z0-9_]+)(!?): (\[?)(string|number|integer|boolean|object)(?:\{(.*)\})?(\]?)(?: +#.*)?$`)

// ReadFields reads a kind's fields from a file.
func ReadFields(path string) (*Field, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read fields: %w", err)
	}
	kind, err := ParseFields(string(raw))
	if err != nil {
		return nil, fmt.Errorf("read fields: %s: %w", path, err)
	}
	return kind, nil
}

// ParseFields reads a kind's fields. A line is `name!: type`: indentation nests, ! is required, [x] is a list of x,
// string{a|b} allows these words alone, and # begins a remark.
func ParseFields(text string) (*Field, error) {
	kind := &Field{Type: "object"}
	above := []*Field{kind} // by depth
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		m := fieldLine.FindStringSubmatch(line)
		depth := 0
		if m != nil {
			depth = len(m[1]) / 2
		}
		if m == nil || (m[4] == "[") != (m[7] == "]") || len(m[1])%2 != 0 || depth >= len(above) || above[depth].Type != "object" {
			return nil, fmt.Errorf("line %d: %q: wanted name: type", i+1, line)
		}
		parent := above[depth]
		f := &Field{Name: m[2], Required: m[3] == "!", List: m[4] == "[", Type: m[5]}
		if m[6] != "" {
			f.Words = strings.Split(strings.ReplaceAll(m[6], `"`, ""), "|")
		}
		for _, other := range parent.Fields {
			if other.Name == f.Name {
				return nil, fmt.Errorf("line %d: %s is there twice", i+1, f.Name)
			}
		}
		parent.Fields = append(parent.Fields, f)
		above = append(above[:depth+1], f)
	}
	return kind, nil
}

// Objects returns as many objects with every field as it takes for each word to be in one of them.
func (f *Field) Objects() []map[string]any {
	out := make([]map[string]any, f.mostWords())
	for i := range out {
		out[i] = f.filled(i)
	}
	return out
}

func (f *Field) mostWords() int {
	most := max(1, len(f.Words))
	for _, child := range f.Fields {
		most = max(most, child.mostWords())
	}
	return most
}

func (f *Field) filled(i int) map[string]any {
	out := map[string]any{}
	for _, child := range f.Fields {
		if child.List {
			out[child.Name] = []any{child.value(i), child.value(i + 1)}
		} else {
			out[child.Name] = child.value(i)
		}
	}
	return out
}

// value is the one with index i.
func (f *Field) value(i int) any {
	switch f.Type {
	case "object":
		return f.filled(i)
	case "integer":
		return i
	case "number":
		return float64(i) + 0.5
	case "boolean":
		return i%2 == 0
	}
	if n := len(f.Words); n > 0 {
		return f.Words[i%n]
	}
	return fmt.Sprintf("text %d", i)
}
