package crd

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/test/description"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// framework serves kind by the framework's own schema, with metadata as every kind has it.
func framework(t testing.TB, kind string, like *server) *server {
	t.Helper()
	schema := readTree(t, kind)
	for name, typ := range map[string]string{"apiVersion": "string", "kind": "string", "metadata": "object"} {
		schema.Properties[name] = apiextensionsv1.JSONSchemaProps{Type: typ}
	}
	return newServer(t, like.kind, schema)
}

// TestWhatTheFrameworkAcceptsIsAcceptedAndKept draws objects by the framework's schema, right and wrong ones, and gives each
// to both: what the framework takes we take, and what it keeps we keep as it is.
func TestWhatTheFrameworkAcceptsIsAcceptedAndKept(t *testing.T) {
	ours := servers(t)
	for _, kind := range description.Kinds {
		theirs, draw := framework(t, kind, ours[kind]), &drawer{rand: rand.New(rand.NewPCG(1, 2)), wrong: 0.004}
		tree := readTree(t, kind)
		var taken, refused, looser int
		for range 3000 {
			raw, err := json.Marshal(draw.object(tree))
			if err != nil {
				t.Fatal(err)
			}
			want, _, wantErrs := theirs.created(t, raw)
			got, _, gotErrs := ours[kind].created(t, raw)
			if len(wantErrs) > 0 {
				refused++
				if len(gotErrs) == 0 {
					looser++
				}
				continue
			}
			taken++
			checkTaken(t, kind, raw, want, got, gotErrs)
			if t.Failed() {
				return
			}
		}
		t.Logf("%-18s %4d taken by both, %4d refused by the framework, of which we take %3d", kind, taken, refused, looser)
		if taken < 300 || refused < 30 {
			t.Errorf("%s: %d taken, %d refused; wanted plenty of both, or nothing is shown", kind, taken, refused)
		}
	}
}

func checkTaken(t *testing.T, kind string, raw []byte, want, got *unstructured.Unstructured, errs field.ErrorList) {
	t.Helper()
	if len(errs) > 0 {
		t.Errorf("%s: the framework takes %s; we say %v", kind, raw, errs)
		return
	}
	if !reflect.DeepEqual(want.Object, got.Object) {
		t.Errorf("%s: of %s the framework keeps\n%v\nand we\n%v", kind, raw, want.Object, got.Object)
		return
	}
	checkTyped(t, kind, got)
}

// drawer draws values for a schema. wrong is the share of values that have another type or word than the schema says.
type drawer struct {
	rand  *rand.Rand
	wrong float64
}

func pick[T any](d *drawer, from ...T) T { return from[d.rand.IntN(len(from))] }

func (d *drawer) value(s *apiextensionsv1.JSONSchemaProps) any {
	if d.rand.Float64() < d.wrong {
		return pick[any](d, nil, "no such word", "", 7, -1.5, true, []any{}, []any{"x"}, map[string]any{}, map[string]any{"surplus": 1})
	}
	switch s.Type {
	case "object":
		return d.object(s)
	case "array":
		out := []any{}
		for range d.rand.IntN(3) {
			out = append(out, d.value(s.Items.Schema))
		}
		return out
	case "string":
		if len(s.Enum) > 0 {
			return strings.Trim(string(pick(d, s.Enum...).Raw), `"`)
		}
		return pick(d, "", "a", "two words", "π", "on", "1", strings.Repeat("long", 100))
	case "integer":
		return pick[any](d, 0, 1, -1, 42, json.Number("1.0"), json.Number("3e2"), int64(1)<<53, -(int64(1) << 53))
	case "number":
		return pick[any](d, 0, 1, -1, 0.5, -2.25, json.Number("1.0"), 1e300, 1e-9, int64(1)<<53)
	default:
		return pick(d, true, false)
	}
}

func (d *drawer) object(s *apiextensionsv1.JSONSchemaProps) map[string]any {
	out := map[string]any{}
	for _, name := range names(s) {
		chance := 0.4
		if slices.Contains(s.Required, name) {
			chance = 1 - d.wrong
		}
		if d.rand.Float64() < chance {
			p := s.Properties[name]
			out[name] = d.value(&p)
		}
	}
	if d.rand.Float64() < 0.05 {
		out["surplus"] = pick[any](d, 1, "x", map[string]any{"y": 1})
	}
	return out
}
