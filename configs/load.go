package configs

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/viper"
)

// Source is where a configuration comes from, lowest precedence first; all of it is optional.
type Source struct {
	File     string         // path of a YAML file
	Required bool           // whether a missing File is a fault; a default path may be absent
	Overlay  map[string]any // dotted keys, as set remotely
	Env      []string       // KEY=value, as os.Environ gives it
	Flags    map[string]string
}

// maxFileBytes bounds a configuration file.
const maxFileBytes = 1 << 20

// loader lays the sources over each other and collects what is wrong with them.
type loader struct {
	bad   faults
	file  string
	lines map[string]int    // where in the file a key stands
	where map[string]string // what of the environment or the flags gave a key
}

// load fills out, a pointer to a struct, from the defaults and src. prefix is that of the environment variables, with its
// underscore. What has a fault is left at its default, so that the rest can be validated too.
func load(defaults []byte, prefix string, src Source, out any) (*loader, error) {
	v := viper.New()
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(defaults)); err != nil {
		return nil, fmt.Errorf("read embedded defaults: %w", err)
	}
	l := &loader{lines: map[string]int{}, where: map[string]string{}}
	target := reflect.ValueOf(out).Elem()
	l.decode(target, "", v.Get)
	if len(l.bad) > 0 {
		return nil, fmt.Errorf("read embedded defaults: %w", l.bad.err())
	}
	known := leaves("", target.Type())
	if err := v.MergeConfigMap(l.readFile(src, target.Type())); err != nil {
		return nil, fmt.Errorf("merge %s: %w", src.File, err)
	}
	for _, key := range slices.Sorted(maps.Keys(src.Overlay)) {
		l.override(v, known, key, src.Overlay[key], "")
	}
	l.mergeEnv(v, known, prefix, src.Env)
	for _, key := range slices.Sorted(maps.Keys(src.Flags)) {
		l.override(v, known, key, src.Flags[key], "--set")
	}
	l.decode(target, "", v.Get)
	return l, nil
}

// leaves lists the dotted keys of a struct that hold a value.
func leaves(prefix string, of reflect.Type) []string {
	var out []string
	for i := range of.NumField() {
		key := prefix + tag(of, i)
		if t := of.Field(i).Type; t.Kind() == reflect.Struct {
			out = append(out, leaves(key+".", t)...)
			continue
		}
		out = append(out, key)
	}
	return out
}

// override lays one value over what the file says.
func (l *loader) override(v *viper.Viper, known []string, key string, value any, by string) {
	l.where[key] = by
	if !slices.Contains(known, key) {
		l.unknown(key)
		return
	}
	v.Set(key, value)
}

// mergeEnv takes PREFIX_A_B_C as the key a.b_c, whichever of the known keys it spells.
func (l *loader) mergeEnv(v *viper.Viper, known []string, prefix string, env []string) {
	names := make(map[string]string, len(known))
	for _, key := range known {
		names[variable(prefix, key)] = key
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, prefix) || reserved(name, prefix) {
			continue
		}
		key, ok := names[name]
		if !ok {
			l.bad.add(name, "", "a variable that names a key of `config --defaults`, such as "+prefix+"LOG_LEVEL")
			continue
		}
		l.override(v, known, key, value, name)
	}
}

// Overridden tells what lies over the remote settings for key, a flag or a variable, so that one set remotely would do
// nothing; empty when nothing does.
func (src Source) Overridden(key, prefix string) string {
	if _, ok := src.Flags[key]; ok {
		return "--set " + key
	}
	name := variable(prefix, key)
	for _, entry := range src.Env {
		if strings.HasPrefix(entry, name+"=") {
			return name
		}
	}
	return ""
}

// variable is the environment variable that spells key.
func variable(prefix, key string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// reserved names the variables that steer the program rather than its configuration.
func reserved(name, prefix string) bool { return name == prefix+"CONFIG" }
