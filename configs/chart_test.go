package configs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// schema is as much of JSON Schema as the chart has for cluster.yaml.
type schema struct {
	Ref         string            `json:"$ref"`
	Type        string            `json:"type"`
	Enum        []any             `json:"enum"`
	AnyOf       []schema          `json:"anyOf"`
	Pattern     string            `json:"pattern"`
	Properties  map[string]schema `json:"properties"`
	Closed      any               `json:"additionalProperties"`
	Items       *schema           `json:"items"`
	Definitions map[string]schema `json:"definitions"`
}

// ofTheChart are the keys that the chart sets by itself.
var ofTheChart = []string{"dir", "kube.kubeconfig", "kube.namespace"}

// TestTheChartTakesEveryKeyOfTheConfiguration compares the schema of the chart's values with what is decoded, key by key and type by type.
func TestTheChartTakesEveryKeyOfTheConfiguration(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "install", "helm", "skerry-cluster", "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var whole schema
	if err := json.Unmarshal(raw, &whole); err != nil {
		t.Fatal(err)
	}
	compareSchema(t, whole.Definitions, whole.Definitions["config"], reflect.TypeFor[Cluster](), "")
}

func compareSchema(t *testing.T, all map[string]schema, s schema, of reflect.Type, prefix string) {
	t.Helper()
	var keys []string
	for i := range of.NumField() {
		key := tag(of, i)
		if slices.Contains(ofTheChart, prefix+key) {
			continue
		}
		keys = append(keys, key)
		have, ok := s.Properties[key]
		if !ok {
			t.Errorf("the chart refuses %s%s; wanted it in values.schema.json", prefix, key)
			continue
		}
		if name, isRef := strings.CutPrefix(have.Ref, "#/definitions/"); isRef {
			have = all[name]
		}
		field := of.Field(i).Type
		if got, want := have.kind(), kindOf(field); got != want {
			t.Errorf("%s%s is %s in values.schema.json; wanted %s", prefix, key, got, want)
			continue
		}
		if field.Kind() == reflect.Struct {
			compareSchema(t, all, have, field, prefix+key+".")
		}
		if field.Kind() == reflect.Slice && field.Elem().Kind() == reflect.Struct {
			compareSchema(t, all, *have.Items, field.Elem(), prefix+key+"[].")
		}
	}
	for key := range s.Properties {
		if !slices.Contains(keys, key) {
			t.Errorf("values.schema.json has %s%s, which is no key of cluster.yaml that the chart leaves to values", prefix, key)
		}
	}
	if s.Closed != false {
		t.Errorf("%q in values.schema.json takes keys that it does not list; wanted additionalProperties: false", prefix)
	}
}

// kind is what a schema takes; texts that are one of several are texts.
func (s schema) kind() string {
	switch {
	case len(s.AnyOf) == 2:
		return "size"
	case len(s.Enum) > 0:
		return "string"
	case strings.Contains(s.Pattern, "ns|us|ms|s|m|h"):
		return "duration"
	}
	return s.Type
}

func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[Bytes]():
		return "size"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Slice:
		return "array"
	case reflect.Struct:
		return "object"
	}
	return t.Kind().String()
}
