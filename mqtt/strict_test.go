package mqtt

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/skerry-edge/skerry/api"
)

func TestStrictJSONTakesWhatIsPlain(t *testing.T) {
	for _, text := range []string{
		`{}`, " {\n\t\"a\" : [ { \"a\" : 1 } , { \"a\" : 2 } ] }\r\n", `{"a":"b","b":"a"}`, `{"a":"\"x\":","b":":"}`, `{"a":"\\","b":1}`,
		`{"k\"":1,"k":2}`, `{"a":{"a":{"a":1}}}`, strings.Repeat(`{"a":`, 8) + "1" + strings.Repeat("}", 8),
	} {
		if err := CheckJSON([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzStrictJSONIsStrict compares with a reader built on encoding/json's tokens.
func FuzzStrictJSONIsStrict(f *testing.F) {
	for _, s := range []string{`{"a":[{"b":1},{"b":2}],"c":"\\\""}`, `{"a":1,"\u0061":2}`, `{"a":{"a":1}}`, `{"a":1}{}`, `[{}]`, `{"a":"b":"c"}`,
		strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9), strings.Repeat(`{"a":[`, 4) + strings.Repeat("]}", 4)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return
		}
		if got, want := CheckJSON(data) == nil, referenceStrict(data); got != want {
			t.Fatalf("%q: taken %v; wanted %v", data, got, want)
		}
	})
}

func referenceStrict(data []byte) bool {
	if !utf8.Valid(data) || !json.Valid(data) || !strings.HasPrefix(strings.TrimLeft(string(data), " \t\r\n"), "{") {
		return false
	}
	type level struct {
		keys  map[string]bool
		value bool // the next token is a value
	}
	var open []level
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err != nil {
			return len(open) == 0
		}
		delim, _ := token.(json.Delim)
		switch top := len(open) - 1; {
		case delim == '}' || delim == ']':
			open = open[:top]
			continue
		case top >= 0 && open[top].keys != nil && !open[top].value:
			key, _ := token.(string)
			if open[top].keys[key] || len(open[top].keys) == maxKeys {
				return false
			}
			open[top].keys[key], open[top].value = true, true
			continue
		case top >= 0:
			open[top].value = false
		}
		if delim == '{' || delim == '[' {
			if len(open) == api.MaxDepth {
				return false
			}
			open = append(open, level{})
			if delim == '{' {
				open[len(open)-1].keys = make(map[string]bool)
			}
		}
	}
}
