package crd

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	edgev1alpha1 "github.com/skerry-edge/skerry/api/edge/v1alpha1"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

func newScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1.AddToScheme, edgev1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

func TestEveryKindAndItsListHasAType(t *testing.T) {
	scheme, ours := newScheme(t), servers(t)
	for kind, s := range ours {
		for _, name := range []string{kind, kind + "List"} {
			if !scheme.Recognizes(s.kind.GroupVersion().WithKind(name)) {
				t.Errorf("%s: no type in the scheme", name)
			}
		}
	}
}

// checkTyped holds that an object goes through its Go type, and that type's deep copy and conversion, without loss. Empty
// strings, lists and objects count as absent, and a boolean in place of on or off as the word.
func checkTyped(t *testing.T, kind string, obj *unstructured.Unstructured) {
	t.Helper()
	raw, err := json.Marshal(obj.Object)
	if err != nil {
		t.Fatal(err)
	}
	typed, err := newScheme(t).New(obj.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	if err := strict.Decode(typed); err != nil {
		t.Errorf("%s: decode %s: %v", kind, raw, err)
		return
	}
	want := filled(decoded(t, raw))
	again, err := json.Marshal(typed.DeepCopyObject())
	if err != nil {
		t.Fatal(err)
	}
	if got := filled(decoded(t, again)); !reflect.DeepEqual(got, want) {
		t.Errorf("%s: through its type\n%v\nbecomes\n%v", kind, want, got)
	}
	converted, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		t.Fatalf("%s: convert %s: %v", kind, raw, err)
	}
	if again, err = json.Marshal(converted); err != nil {
		t.Fatal(err)
	}
	if got := filled(decoded(t, again)); !reflect.DeepEqual(got, want) {
		t.Errorf("%s: converted\n%v\nbecomes\n%v", kind, want, got)
	}
}

func decoded(t *testing.T, raw []byte) any {
	t.Helper()
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// filled returns v without what is empty, and nil when nothing is left.
func filled(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if on, is := value.(bool); is && key == "server_side_encryption" {
				value = map[bool]string{true: "on", false: "off"}[on]
			}
			if value = filled(value); value != nil {
				out[key] = value
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		out := []any{}
		for _, value := range v {
			out = append(out, filled(value))
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case string:
		if v == "" {
			return nil
		}
	}
	return v
}
