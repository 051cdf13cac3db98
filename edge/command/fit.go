package command

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/skerry-edge/skerry/api"
)

const (
	// maxStatusBytes is the contract's limit of a status message with room for what is stamped on it on the way.
	maxStatusBytes = 63 << 10
	// resultDepth and resultKeys are what a strict decoder lets pass within a status, which is an object itself.
	resultDepth = api.MaxDepth - 1
	resultKeys  = 256
)

// fit makes s a message that the other side accepts: text is valid UTF-8 and within its limits, and the whole within
// the limit of the contract. A status that is refused would be sent again for ever.
func fit(s *api.Status) {
	s.Reason = clip(s.Reason, api.MaxReasonBytes)
	s.Progress = clip(s.Progress, api.MaxReasonBytes)
	s.Output = tail(strings.ToValidUTF8(s.Output, "\uFFFD"), api.MaxOutputBytes, &s.Truncated)
	bare := *s
	bare.Output = ""
	base, err := json.Marshal(bare)
	if err == nil && len(base) > maxStatusBytes {
		err = fmt.Errorf("takes %d bytes as JSON; wanted at most %d", len(base), maxStatusBytes)
	}
	if err == nil {
		err = portable(base)
	}
	if err != nil { // the result is all that can be at fault
		s.Result = nil
		s.Reason = clip("result left out: "+err.Error()+"; "+s.Reason, api.MaxReasonBytes)
		fit(s)
		return
	}
	for room := maxStatusBytes - len(base); ; {
		encoded, err := json.Marshal(s.Output)
		if err != nil || len(encoded) <= room {
			return
		}
		// What needs escapes grows up to sixfold: keep the share that fits, a little less to be sure of an end.
		keep := len(s.Output) * room / len(encoded) * 15 / 16
		s.Output = tail(s.Output, keep, &s.Truncated)
	}
}

// clip returns the beginning of s as valid UTF-8 of at most limit bytes.
func clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// tail returns the end of s, at most limit bytes from the beginning of a character, and adds what it left out.
func tail(s string, limit int, truncated *int64) string {
	if len(s) <= limit {
		return s
	}
	from := len(s) - limit
	for from < len(s) && !utf8.RuneStart(s[from]) {
		from++
	}
	*truncated += int64(from)
	return s[from:]
}

// portable reports why the result in a status would not pass a strict decoder.
func portable(status []byte) error {
	var doc struct {
		Result map[string]any `json:"result"`
	}
	if err := json.Unmarshal(status, &doc); err != nil {
		return err
	}
	return walk(doc.Result, resultDepth)
}

func walk(v any, depth int) error {
	switch v := v.(type) {
	case map[string]any:
		if depth == 0 {
			return fmt.Errorf("nested deeper than %d levels", resultDepth)
		}
		if len(v) > resultKeys {
			return fmt.Errorf("an object has %d keys; wanted at most %d", len(v), resultKeys)
		}
		for key, value := range v {
			if text, err := json.Marshal(key); err != nil || strings.Contains(string(text), `\`) {
				return fmt.Errorf("key %.40q needs an escape; wanted one that does not", key)
			}
			if err := walk(value, depth-1); err != nil {
				return err
			}
		}
	case []any:
		if depth == 0 {
			return fmt.Errorf("nested deeper than %d levels", resultDepth)
		}
		for _, value := range v {
			if err := walk(value, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}
