package crd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/test/description"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// readTree returns the framework's own schema of a kind.
func readTree(t testing.TB, kind string) *apiextensionsv1.JSONSchemaProps {
	t.Helper()
	return schemaOf(readFields(t, kind))
}

func readFields(t testing.TB, kind string) *description.Field {
	t.Helper()
	fields, err := description.ReadFields(filepath.Join("testdata", "tree", kind+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func schemaOf(f *description.Field) *apiextensionsv1.JSONSchemaProps {
	out := &apiextensionsv1.JSONSchemaProps{Type: f.Type}
	for _, word := range f.Words {
		out.Enum = append(out.Enum, apiextensionsv1.JSON{Raw: []byte(`"` + word + `"`)})
	}
	if f.Type == "object" {
		out.Properties = map[string]apiextensionsv1.JSONSchemaProps{}
	}
	for _, child := range f.Fields {
		value := *schemaOf(child)
		if child.List {
			item := value
			value = apiextensionsv1.JSONSchemaProps{Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &item}}
		}
		if child.Required {
			out.Required = append(out.Required, child.Name)
		}
		out.Properties[child.Name] = value
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
