package configs

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Render writes cfg as YAML, in the order and under the names of the files; what joins a device to a cluster is left
// out.
func Render(cfg any) (string, error) {
	var out strings.Builder
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(render(reflect.ValueOf(cfg))); err != nil {
		return "", fmt.Errorf("render configuration: %w", err)
	}
	return out.String(), enc.Close()
}

func render(v reflect.Value) *yaml.Node {
	switch x := v.Interface().(type) {
	case time.Duration:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: FormatDuration(x)}
	case Bytes:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: x.String()}
	}
	switch v.Kind() {
	case reflect.Struct:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("mapstructure")
			value := render(v.Field(i))
			if name == "join" && v.Field(i).String() != "" {
				value = &yaml.Node{Kind: yaml.ScalarNode, Value: "(set, not shown)"}
			}
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, value)
		}
		return n
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n.Content = append(n.Content, render(v.Index(i)))
		}
		return n
	}
	n := &yaml.Node{}
	if err := n.Encode(v.Interface()); err != nil { // strings, numbers, maps of strings
		n = &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v.Interface())}
	}
	return n
}
