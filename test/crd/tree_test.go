package crd

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// describedKinds are the kinds whose fields the framework defines.
var describedKinds = []string{"MLSysOpsApp", "MLSysOpsNode", "MLSysOpsCluster", "MLSysOpsContinuum", "MLSysOpsDatacenter"}

// readTree returns the framework's own schema of a kind from testdata/tree. A line is `name!: type`: indentation nests, ! is
// required, [x] is an array of x, string{a|b} an enum, and # begins a remark.
func readTree(t testing.TB, kind string) *apiextensionsv1.JSONSchemaProps {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "tree", kind+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	schema, err := parseTree(string(text))
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return schema
}

var treeLine = regexp.MustCompile(`^( *)([A-Za-z0-9_]+)(!?): (\[?)(string|number|integer|boolean|object)(?:\{(.*)\})?(\]?)(?: +#.*)?$`)

func parseTree(text string) (*apiextensionsv1.JSONSchemaProps, error) {
	root := &apiextensionsv1.JSONSchemaProps{Type: "object"}
	parse := &treeParser{lines: strings.Split(strings.TrimRight(text, "\n"), "\n")}
	if err := parse.children(root, 0); err != nil {
		return nil, err
	}
	if parse.next < len(parse.lines) {
		return nil, fmt.Errorf("line %d: wanted less indentation", parse.next+1)
	}
	return root, nil
}

type treeParser struct {
	lines []string
	next  int
}

// children reads the lines at depth, and what is below them, into parent.
func (p *treeParser) children(parent *apiextensionsv1.JSONSchemaProps, depth int) error {
	parent.Properties = map[string]apiextensionsv1.JSONSchemaProps{}
	for p.next < len(p.lines) {
		m := treeLine.FindStringSubmatch(p.lines[p.next])
		if m == nil || (m[4] == "[") != (m[7] == "]") || len(m[1])%2 != 0 {
			return fmt.Errorf("line %d: %q: wanted name: type", p.next+1, p.lines[p.next])
		}
		if len(m[1])/2 != depth {
			return nil
		}
		p.next++
		name := m[2]
		if _, twice := parent.Properties[name]; twice {
			return fmt.Errorf("line %d: %s is there twice", p.next, name)
		}
		value := apiextensionsv1.JSONSchemaProps{Type: m[5], Enum: parseEnum(m[6])}
		if value.Type == "object" {
			if err := p.children(&value, depth+1); err != nil {
				return err
			}
		}
		if m[4] == "[" {
			item := value
			value = apiextensionsv1.JSONSchemaProps{Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &item}}
		}
		if m[3] == "!" {
			parent.Required = append(parent.Required, name)
		}
		parent.Properties[name] = value
	}
	return nil
}

func parseEnum(words string) []apiextensionsv1.JSON {
	if words == "" {
		return nil
	}
	var out []apiextensionsv1.JSON
	for _, word := range strings.Split(words, "|") {
		out = append(out, apiextensionsv1.JSON{Raw: []byte(`"` + strings.Trim(word, `"`) + `"`)})
	}
	return out
}

// difference is one place where a schema is not the framework's.
type difference struct {
	path string // such as components[].sensors[].camera.model
	what string // missing, extra, type, required, open, enum
	text string
}

func (d difference) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s", d.path, d.what, d.text))
}

// compare lists where got is not want. Descriptions do not count, but an enum that became open is given the known words
// that no description on the way to it names.
func compare(want, got *apiextensionsv1.JSONSchemaProps) []difference {
	var out []difference
	compareAt("", "", want, got, &out)
	return out
}

func compareAt(path, described string, want, got *apiextensionsv1.JSONSchemaProps, out *[]difference) {
	described += " " + got.Description
	add := func(what, text string) { *out = append(*out, difference{path, what, text}) }
	if want.Type != got.Type {
		add("type", fmt.Sprintf("%q, wanted %q", got.Type, want.Type))
	}
	compareEnums(want, got, described, add)
	if want.Items != nil && got.Items != nil {
		compareAt(path+"[]", described, want.Items.Schema, got.Items.Schema, out)
	}
	if path != "" {
		path += "."
	}
	for _, name := range names(want, got) {
		w, inWant := want.Properties[name]
		g, inGot := got.Properties[name]
		switch {
		case !inGot:
			*out = append(*out, difference{path + name, "missing", ""})
		case !inWant:
			*out = append(*out, difference{path + name, "extra", ""})
		default:
			if slices.Contains(want.Required, name) != slices.Contains(got.Required, name) {
				*out = append(*out, difference{path + name, "required", fmt.Sprint(slices.Contains(got.Required, name))})
			}
			compareAt(path+name, described, &w, &g, out)
		}
	}
}

func compareEnums(want, got *apiextensionsv1.JSONSchemaProps, described string, add func(what, text string)) {
	wanted, have := enumWords(want), enumWords(got)
	if len(wanted) > 0 && len(have) == 0 {
		unknown := slices.DeleteFunc(slices.Clone(wanted), func(w string) bool { return strings.Contains(described, strings.Trim(w, `"`)) })
		add("open", strings.Join(unknown, " "))
		return
	}
	for _, w := range wanted {
		if !slices.Contains(have, w) {
			add("enum", "without "+w)
		}
	}
	for _, w := range have {
		if !slices.Contains(wanted, w) {
			add("enum", "with "+w)
		}
	}
}

func enumWords(s *apiextensionsv1.JSONSchemaProps) []string {
	var out []string
	for _, e := range s.Enum {
		out = append(out, string(e.Raw))
	}
	return out
}

func names(schemas ...*apiextensionsv1.JSONSchemaProps) []string {
	var out []string
	for _, s := range schemas {
		for name := range s.Properties {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
