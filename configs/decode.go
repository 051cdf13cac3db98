package configs

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// decode fills the struct out, whose keys begin with prefix, with what get has for each of them. What has the wrong type
// is a fault, and the field stays as it was, so that nothing is said of it twice.
func (l *loader) decode(out reflect.Value, prefix string, get func(key string) any) {
	for i := range out.NumField() {
		field, key := out.Field(i), prefix+tag(out.Type(), i)
		if field.Kind() == reflect.Struct {
			l.decode(field, key+".", get)
			continue
		}
		if value := get(key); value != nil {
			l.set(field, key, value)
		}
	}
}

// set sets one field. value is as YAML, JSON or a variable gives it.
func (l *loader) set(field reflect.Value, key string, value any) {
	if wanted := l.assign(field, key, value); wanted != "" {
		l.add(key, value, wanted)
	}
}

// assign returns what was wanted when value is none for field.
func (l *loader) assign(field reflect.Value, key string, value any) (wanted string) {
	switch field.Interface().(type) {
	case time.Duration:
		text, ok := value.(string)
		if !ok {
			return "a duration with its unit, such as 10s"
		}
		d, err := ParseDuration(text)
		if err != nil {
			return wantedDuration
		}
		field.SetInt(int64(d))
		return ""
	case Bytes:
		text, ok := scalar(value)
		n, err := ParseBytes(text)
		if !ok || err != nil {
			return wantedBytes
		}
		field.SetInt(int64(n))
		return ""
	}
	switch field.Kind() {
	case reflect.Slice:
		return l.assignList(field, key, value)
	case reflect.Map:
		return l.assignMap(field, key, value)
	}
	text, ok := scalar(value)
	return assignScalar(field, strings.TrimSpace(text), ok)
}

// assignScalar sets a text, a truth or a number; ok tells whether text is one at all.
func assignScalar(field reflect.Value, text string, ok bool) (wanted string) {
	switch field.Kind() {
	case reflect.String:
		if !ok {
			return "a text"
		}
		field.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if !ok || err != nil {
			return "true or false"
		}
		field.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseFloat(text, 64)
		if !ok || err != nil || n != math.Trunc(n) || math.Abs(n) > math.MaxInt32 {
			return "a whole number"
		}
		field.SetInt(int64(n))
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if !ok || err != nil {
			return "a number"
		}
		field.SetFloat(n)
	}
	return ""
}

// assignList sets a list of texts, or of entries with keys of their own. Commas part a text where texts are wanted:
// variables and flags have no other way.
func (l *loader) assignList(field reflect.Value, key string, value any) (wanted string) {
	text, isText := value.(string)
	texts := field.Type().Elem().Kind() == reflect.String
	var items []any
	switch list := value.(type) {
	case []any:
		items = list
	case []string:
		for _, s := range list {
			items = append(items, s)
		}
	case string:
		if !texts && strings.TrimSpace(text) != "" {
			return "a list of entries, each with " + keysOf(field.Type().Elem()) + "; only a file can hold one"
		}
		items = commas(text)
	default:
		if texts {
			return "a list of texts"
		}
		return "a list of entries, each with " + keysOf(field.Type().Elem())
	}
	out := reflect.MakeSlice(field.Type(), len(items), len(items))
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", key, i)
		entry, isMap := item.(entry)
		switch {
		case texts && isText:
			out.Index(i).SetString(item.(string))
		case texts:
			l.set(out.Index(i), at, item)
		case !isMap:
			l.add(at, item, "an entry with "+keysOf(field.Type().Elem()))
		default:
			l.decode(out.Index(i), at+".", func(k string) any { return entry[strings.TrimPrefix(k, at+".")] })
		}
	}
	field.Set(out)
	return ""
}

func (l *loader) assignMap(field reflect.Value, key string, value any) (wanted string) {
	in, ok := value.(entry)
	if !ok {
		return "names with a text each"
	}
	out := reflect.MakeMapWithSize(field.Type(), len(in))
	for name, item := range in {
		text := reflect.New(field.Type().Elem()).Elem()
		l.set(text, key+"."+name, item)
		out.SetMapIndex(reflect.ValueOf(name), text)
	}
	field.Set(out)
	return ""
}

// scalar is the text of a text, number or truth.
func scalar(value any) (string, bool) {
	switch x := value.(type) {
	case string:
		return x, true
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64), true
	case bool, int, int64, uint64:
		return fmt.Sprint(x), true
	}
	return "", false
}

// commas splits a text; empty is an empty list.
func commas(text string) []any {
	out := []any{}
	if strings.TrimSpace(text) == "" {
		return out
	}
	for part := range strings.SplitSeq(text, ",") {
		out = append(out, strings.TrimSpace(part))
	}
	return out
}

// tag is the key of the i-th field of a struct.
func tag(of reflect.Type, i int) string { return of.Field(i).Tag.Get("mapstructure") }

// fieldOf returns the type of the field that key names in a struct.
func fieldOf(of reflect.Type, key string) (reflect.Type, bool) {
	for i := range of.NumField() {
		if tag(of, i) == key {
			return of.Field(i).Type, true
		}
	}
	return nil, false
}

// keysOf lists the keys of a struct, as a person reads them.
func keysOf(of reflect.Type) string {
	keys := make([]string, of.NumField())
	for i := range keys {
		keys[i] = tag(of, i)
	}
	return strings.Join(keys, ", ")
}
