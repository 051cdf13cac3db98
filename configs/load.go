package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
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

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	Field  string // dotted key, or the file or variable
	Value  string // what was found; never a secret
	Wanted string
}

// Error reads: telemetry.interval "5x": wanted a duration such as 10s.
func (f Fault) Error() string {
	if f.Value == "" {
		return fmt.Sprintf("%s: wanted %s", f.Field, f.Wanted)
	}
	return fmt.Sprintf("%s %q: wanted %s", f.Field, f.Value, f.Wanted)
}

// faults collects every fault, so that one run tells all.
type faults []error

func (f *faults) add(field string, value any, wanted string) {
	*f = append(*f, Fault{field, fmt.Sprint(value), wanted})
}

// need adds a fault unless ok.
func (f *faults) need(ok bool, field string, value any, wanted string) {
	if !ok {
		f.add(field, value, wanted)
	}
}

func (f faults) err() error { return errors.Join(f...) }

// load fills out from the defaults and src. prefix is that of the environment variables, with its underscore.
func load(defaults []byte, prefix string, src Source, out any) error {
	v := viper.New()
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(defaults)); err != nil {
		return fmt.Errorf("read embedded defaults: %w", err)
	}
	known := v.AllKeys()
	var bad faults
	bad = append(bad, mergeFile(v, src)...)
	for key, value := range src.Overlay {
		bad.need(slices.Contains(known, key), key, value, "a key that `config --defaults` lists")
		v.Set(key, value)
	}
	bad = append(bad, mergeEnv(v, known, prefix, src.Env)...)
	for key, value := range src.Flags {
		bad.need(slices.Contains(known, key), "--set "+key, value, "a key that `config --defaults` lists")
		v.Set(key, value)
	}
	err := v.UnmarshalExact(out, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		decodeDuration, decodeBytes, decodeList)))
	return errors.Join(bad.err(), tidy(err))
}

func mergeFile(v *viper.Viper, src Source) faults {
	if src.File == "" {
		return nil
	}
	raw, err := os.ReadFile(src.File)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !src.Required:
		return nil
	case err != nil:
		return faults{fmt.Errorf("read configuration: %w", err)}
	case len(raw) > maxFileBytes:
		return faults{Fault{src.File, fmt.Sprint(len(raw), " bytes"), fmt.Sprint("at most ", maxFileBytes)}}
	}
	if err := v.MergeConfig(bytes.NewReader(raw)); err != nil {
		return faults{fmt.Errorf("parse %s: %w", src.File, err)}
	}
	return nil
}

// mergeEnv takes PREFIX_A_B_C as the key a.b_c, whichever of the known keys it spells.
func mergeEnv(v *viper.Viper, known []string, prefix string, env []string) faults {
	names := make(map[string]string, len(known))
	for _, key := range known {
		names[variable(prefix, key)] = key
	}
	var bad faults
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix) || reserved(name, prefix) {
			continue
		}
		key, ok := names[name]
		if !ok {
			bad.add(name, "", "a variable that names a key of `config --defaults`, such as "+prefix+"LOG_LEVEL")
			continue
		}
		v.Set(key, value)
	}
	return bad
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

// tidy takes mapstructure's preamble away and keeps its one line per fault.
func tidy(err error) error {
	if err == nil {
		return nil
	}
	var bad faults
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "* "))
		if line != "" && !strings.HasPrefix(line, "decoding failed") && !strings.HasSuffix(line, "error(s) decoding:") {
			bad = append(bad, errors.New(line))
		}
	}
	return bad.err()
}

// decodeList splits a string on commas where a list of strings is wanted (environment, flags). Empty is an empty list.
func decodeList(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to != reflect.TypeFor[[]string]() {
		return data, nil
	}
	text := strings.TrimSpace(reflect.ValueOf(data).String())
	if text == "" {
		return []string{}, nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts, nil
}
