package registry

import (
	"fmt"
	"slices"
	"strings"
)

// Selector chooses nodes by their labels. The zero value matches all.
type Selector struct {
	terms []term
}

type term struct {
	key    string
	not    bool
	exists bool // only whether the label is there matters
	values []string
}

// maxSelector bounds the text of a selector.
const maxSelector = 4 << 10

// ParseSelector reads the form that kubectl takes: comma-separated terms of which all have to hold, each one of
// key=value (or ==), key!=value, key, !key, key in (a,b), key notin (a,b). A label that is not there differs from every
// value.
func ParseSelector(s string) (Selector, error) {
	if len(s) > maxSelector {
		return Selector{}, fmt.Errorf("selector has %d bytes; wanted at most %d", len(s), maxSelector)
	}
	var sel Selector
	for _, part := range splitTerms(s) {
		part = strings.TrimSpace(part)
		if part == "" && strings.TrimSpace(s) == "" {
			continue
		}
		t, err := parseTerm(part)
		if err != nil {
			return Selector{}, err
		}
		sel.terms = append(sel.terms, t)
	}
	return sel, nil
}

// splitTerms splits at the commas outside parentheses.
func splitTerms(s string) []string {
	var parts []string
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				parts = append(parts, s[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, s[from:])
}

func parseTerm(part string) (term, error) {
	wrong := func() (term, error) {
		return term{}, fmt.Errorf("selector term %.80q: wanted key=value, key!=value, key, !key, key in (a,b) or key notin (a,b)",
			part)
	}
	if key, list, ok := strings.Cut(part, "("); ok {
		list, closed := strings.CutSuffix(strings.TrimSpace(list), ")")
		words := strings.Fields(key)
		if !closed || len(words) != 2 || words[1] != "in" && words[1] != "notin" || strings.ContainsAny(words[0]+list, "()=!") {
			return wrong()
		}
		t := term{key: words[0], not: words[1] == "notin"}
		for _, v := range strings.Split(list, ",") {
			t.values = append(t.values, strings.TrimSpace(v))
		}
		return t, nil
	}
	t := term{}
	key, value, equal := strings.Cut(part, "=")
	switch {
	case equal && strings.HasSuffix(key, "!"):
		t.key, t.not = strings.TrimSuffix(key, "!"), true
	case equal:
		t.key, value = key, strings.TrimPrefix(value, "=")
	case strings.HasPrefix(part, "!"):
		t.key, t.not, t.exists = part[1:], true, true
	default:
		t.key, t.exists = part, true
	}
	t.key = strings.TrimSpace(t.key)
	if value = strings.TrimSpace(value); !t.exists {
		t.values = []string{value}
	}
	if t.key == "" || strings.ContainsAny(t.key, "!()= \t") || strings.ContainsAny(value, "=()") {
		return wrong()
	}
	return t, nil
}

// Matches reports whether all terms hold for labels.
func (s Selector) Matches(labels map[string]string) bool {
	for i := range s.terms {
		t := &s.terms[i]
		value, there := labels[t.key]
		holds := there && (t.exists || slices.Contains(t.values, value))
		if holds == t.not {
			return false
		}
	}
	return true
}
