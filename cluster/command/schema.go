package command

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/skerry-edge/skerry/api"
)

// maxPatternBytes bounds the regular expression of a schema, which a node supplies. RE2 matches in linear time.
const maxPatternBytes = 512

// checkArgs reports every fault of args by the schema that a node announced, so that one answer is enough to mend them.
func checkArgs(schema *api.Schema, args map[string]any) error {
	if args == nil {
		args = map[string]any{}
	}
	var faults []error
	checkValue(schema, "args", args, &faults)
	return errors.Join(faults...)
}

func checkValue(schema *api.Schema, path string, value any, faults *[]error) {
	fault := func(format string, a ...any) {
		*faults = append(*faults, fmt.Errorf("%s: %w", path, fmt.Errorf(format, a...)))
	}
	if got := typeOf(value); schema.Type != "" && !typeFits(schema.Type, got, value) {
		fault("is %s; wanted %s", got, schema.Type)
		return
	}
	switch v := value.(type) {
	case map[string]any:
		checkObject(schema, path, v, faults)
	case []any:
		if schema.Items == nil {
			return
		}
		for i := range v {
			checkValue(schema.Items, fmt.Sprintf("%s[%d]", path, i), v[i], faults)
		}
	case string:
		checkString(schema, v, fault)
	case float64:
		if schema.Minimum != nil && v < *schema.Minimum {
			fault("is %s; wanted at least %s", decimal(v), decimal(*schema.Minimum))
		}
		if schema.Maximum != nil && v > *schema.Maximum {
			fault("is %s; wanted at most %s", decimal(v), decimal(*schema.Maximum))
		}
	}
}

// decimal writes v as people do.
func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func checkObject(schema *api.Schema, path string, object map[string]any, faults *[]error) {
	for _, name := range schema.Required {
		if _, ok := object[name]; !ok {
			*faults = append(*faults, fmt.Errorf("%s.%s is missing", path, name))
		}
	}
	closed := schema.AdditionalProperties != nil && !*schema.AdditionalProperties
	for _, name := range slices.Sorted(maps.Keys(object)) {
		property, known := schema.Properties[name]
		switch {
		case known:
			checkValue(&property, path+"."+name, object[name], faults)
		case closed:
			*faults = append(*faults, fmt.Errorf("%s.%.63s is not known; wanted one of %s", path, name,
				strings.Join(slices.Sorted(maps.Keys(schema.Properties)), ", ")))
		}
	}
}

func checkString(schema *api.Schema, v string, fault func(string, ...any)) {
	if len(schema.Enum) > 0 && !slices.Contains(schema.Enum, v) {
		fault("is %.63q; wanted one of %s", v, strings.Join(schema.Enum, ", "))
	}
	if n := utf8.RuneCountInString(v); schema.MaxLength > 0 && n > schema.MaxLength {
		fault("has %d characters; wanted at most %d", n, schema.MaxLength)
	}
	if schema.Pattern == "" || len(schema.Pattern) > maxPatternBytes {
		return // the node checks what we do not
	}
	if re, err := regexp.Compile(schema.Pattern); err == nil && !re.MatchString(v) {
		fault("is %.63q; wanted a match of %s", v, schema.Pattern)
	}
}

// typeOf names the JSON type of a decoded value.
func typeOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		return "number"
	case []any:
		return "array"
	default:
		return "object"
	}
}

func typeFits(want, got string, value any) bool {
	if want == "integer" {
		v, ok := value.(float64)
		return ok && v == math.Trunc(v)
	}
	return want == got
}
