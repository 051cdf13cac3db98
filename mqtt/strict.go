package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/skerry-edge/skerry/api"
)

// maxKeys bounds the keys of one object.
const maxKeys = 256

// CheckJSON refuses what encoding/json would let pass: nesting beyond api.MaxDepth, a key twice in one object (it keeps
// the last, another reader may keep the first), invalid UTF-8 (it replaces it), anything but one object. Syntax is
// encoding/json's to check.
func CheckJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	if !json.Valid(data) { // before the walk, so that the walk may trust the syntax
		return errors.New("not one valid JSON value")
	}
	if first := skipSpace(data, 0); data[first] != '{' {
		return fmt.Errorf("begins with %q; wanted a JSON object or a CBOR map", data[first])
	}
	return walk(data)
}

// walk follows the brackets of valid JSON and collects the keys of each open object.
func walk(data []byte) error {
	var open [api.MaxDepth]struct {
		object bool
		keys   [][]byte
	}
	depth := 0
	for i := 0; i < len(data); {
		switch c := data[i]; c {
		case '{', '[':
			if depth == api.MaxDepth {
				return fmt.Errorf("nested deeper than %d levels", api.MaxDepth)
			}
			open[depth].object = c == '{'
			open[depth].keys = open[depth].keys[:0]
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case '"':
			end := stringEnd(data, i)
			next := skipSpace(data, end)
			if next < len(data) && data[next] == ':' {
				level := &open[depth-1]
				key, err := newKey(level.keys, data[i:end])
				if err != nil {
					return err
				}
				level.keys = append(level.keys, key)
			}
			i = end
		default:
			i++
		}
	}
	return nil
}

// newKey returns key without its quotes and escapes, or why it cannot join keys.
func newKey(keys [][]byte, key []byte) ([]byte, error) {
	if len(keys) == maxKeys {
		return nil, fmt.Errorf("an object has more than %d keys", maxKeys)
	}
	name := key[1 : len(key)-1]
	if bytes.IndexByte(name, '\\') >= 0 { // "\u0061" is "a" to whoever reads it next
		var plain string
		if err := json.Unmarshal(key, &plain); err != nil {
			return nil, err
		}
		name = []byte(plain)
	}
	for _, k := range keys {
		if bytes.Equal(k, name) {
			return nil, fmt.Errorf("key %.40q appears twice", name)
		}
	}
	return name, nil
}

// stringEnd returns the index after the string that begins at data[i].
func stringEnd(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}
