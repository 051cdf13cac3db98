package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/skerry-edge/skerry/api"
)

// maxFaults bounds how many faults of one argument object are told.
const maxFaults = 8

// checker is a compiled schema. It is strict: a number given as a string is not a number. Whoever types arguments
// (`--arg n=5`) reads the schema, which is part of the node's birth, and sends the right type.
type checker struct {
	schema     api.Schema
	closed     bool // no properties beyond those named
	pattern    *regexp.Regexp
	properties map[string]*checker
	items      *checker
}

// compile checks schema itself; path names it in errors.
func compile(path string, schema api.Schema) (*checker, error) {
	c := &checker{schema: schema, closed: schema.AdditionalProperties != nil && !*schema.AdditionalProperties}
	switch schema.Type {
	case "", "object", "array", "string", "number", "integer", "boolean":
	default:
		return nil, fmt.Errorf("schema of %s: type %q: wanted object, array, string, number, integer or boolean",
			path, schema.Type)
	}
	var err error
	if schema.Pattern != "" {
		if c.pattern, err = regexp.Compile(schema.Pattern); err != nil {
			return nil, fmt.Errorf("schema of %s: pattern: %w", path, err)
		}
	}
	if schema.Items != nil {
		if c.items, err = compile(path+"[]", *schema.Items); err != nil {
			return nil, err
		}
	}
	c.properties = make(map[string]*checker, len(schema.Properties))
	for name, property := range schema.Properties {
		if c.properties[name], err = compile(path+"."+name, property); err != nil {
			return nil, err
		}
	}
	for _, name := range schema.Required {
		if c.properties[name] == nil {
			return nil, fmt.Errorf("schema of %s: required %q is no property", path, name)
		}
	}
	return c, nil
}

// Check reports how args differ from schema: path, value and what was wanted of the first faults.
func Check(schema api.Schema, args map[string]any) error {
	c, err := compile("args", schema)
	if err != nil {
		return err
	}
	return c.check(args)
}

func (c *checker) check(args map[string]any) error {
	var faults []error
	if args == nil {
		args = map[string]any{}
	}
	c.value("args", args, &faults)
	return errors.Join(faults...)
}

func fault(faults *[]error, format string, args ...any) {
	if len(*faults) < maxFaults {
		*faults = append(*faults, fmt.Errorf(format, args...))
	}
}

func (c *checker) value(path string, v any, faults *[]error) {
	if len(*faults) == maxFaults {
		return
	}
	if !c.typed(v) {
		fault(faults, "%s is %s; wanted %s", path, show(v), c.schema.Type)
		return
	}
	switch v := v.(type) {
	case map[string]any:
		c.object(path, v, faults)
	case []any:
		for i := range v {
			if c.items != nil {
				c.items.value(fmt.Sprintf("%s[%d]", path, i), v[i], faults)
			}
		}
	case string:
		c.text(path, v, faults)
	default:
		if n, ok := number(v); ok {
			c.number(path, n, faults)
		}
	}
}

func (c *checker) typed(v any) bool {
	switch c.schema.Type {
	case "object":
		_, ok := v.(map[string]any)
		return ok
	case "array":
		_, ok := v.([]any)
		return ok
	case "string":
		_, ok := v.(string)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "number":
		_, ok := number(v)
		return ok
	case "integer":
		n, ok := number(v)
		return ok && n == math.Trunc(n) && math.Abs(n) <= 1<<53
	}
	return true
}

func (c *checker) object(path string, v map[string]any, faults *[]error) {
	for _, name := range c.schema.Required {
		if _, ok := v[name]; !ok {
			fault(faults, "%s.%s is missing", path, name)
		}
	}
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names) // the same faults every time
	for _, name := range names {
		property := c.properties[name]
		switch {
		case property != nil:
			property.value(path+"."+name, v[name], faults)
		case c.closed:
			fault(faults, "%s.%.40s is unknown; wanted %s", path, name, c.wanted())
		}
	}
}

// wanted lists the properties there are.
func (c *checker) wanted() string {
	if len(c.properties) == 0 {
		return "no arguments"
	}
	names := make([]string, 0, len(c.properties))
	for name := range c.properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (c *checker) text(path, v string, faults *[]error) {
	if limit := c.schema.MaxLength; limit > 0 && utf8.RuneCountInString(v) > limit {
		fault(faults, "%s has %d characters; wanted at most %d", path, utf8.RuneCountInString(v), limit)
		return
	}
	if len(c.schema.Enum) > 0 && !slices.Contains(c.schema.Enum, v) {
		fault(faults, "%s is %s; wanted one of %s", path, show(v), strings.Join(c.schema.Enum, ", "))
	}
	if c.pattern != nil && !c.pattern.MatchString(v) {
		fault(faults, "%s is %s; wanted to match %s", path, show(v), c.schema.Pattern)
	}
}

func (c *checker) number(path string, v float64, faults *[]error) {
	if low := c.schema.Minimum; low != nil && v < *low {
		fault(faults, "%s is %s; wanted at least %s", path, decimal(v), decimal(*low))
	}
	if high := c.schema.Maximum; high != nil && v > *high {
		fault(faults, "%s is %s; wanted at most %s", path, decimal(v), decimal(*high))
	}
}

// decimal writes v as people do.
func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// number reads what JSON and CBOR decoders make of a number.
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, !math.IsNaN(n) && !math.IsInf(n, 0)
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case uint64:
		return float64(n), true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}

// show writes a value short enough for an error.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%.40q", v)
	case map[string]any:
		return "an object"
	case []any:
		return "an array"
	case nil:
		return "null"
	}
	return clip(fmt.Sprint(v), 40)
}
