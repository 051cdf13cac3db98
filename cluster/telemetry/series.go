package telemetry

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/skerry-edge/skerry/api"
)

// ErrMalformed marks a batch that can never be stored, however often it comes: whoever sent it should be told that it
// arrived, and the fault be counted.
var ErrMalformed = errors.New("malformed batch")

// The labels that the store adds. A node that sends one of its own finds it under exported_.
const (
	labelNode     = "node"
	labelCluster  = "cluster"
	exportedLabel = "exported_"
)

// parseSeries reads a series in Prometheus' text form, name{label="value",…}, and returns its labels without those that
// are empty. The strings are parts of text unless they were escaped.
func parseSeries(text string) ([]labels.Label, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("wanted UTF-8")
	}
	end := nameEnd(text, true)
	if end == 0 {
		return nil, errors.New("wanted a metric name first, [a-zA-Z_:][a-zA-Z0-9_:]*")
	}
	out := []labels.Label{{Name: model.MetricNameLabel, Value: text[:end]}}
	rest := text[end:]
	if rest == "" {
		return out, nil
	}
	if rest[0] != '{' {
		return nil, fmt.Errorf("character %q after the metric name; wanted { or nothing", rest[0])
	}
	rest = rest[1:]
	for !strings.HasPrefix(rest, "}") {
		l, after, err := parseLabel(rest)
		if err != nil {
			return nil, err
		}
		for _, have := range out {
			if have.Name == l.Name {
				return nil, fmt.Errorf("label %s comes twice", l.Name)
			}
		}
		if len(out) > api.MaxLabels {
			return nil, fmt.Errorf("more than %d labels", api.MaxLabels)
		}
		out = append(out, l)
		rest = after
		if strings.HasPrefix(rest, ",") {
			rest = rest[1:]
		} else if !strings.HasPrefix(rest, "}") {
			return nil, fmt.Errorf("no comma or } after label %s", l.Name)
		}
	}
	if rest != "}" {
		return nil, errors.New("text after the closing brace")
	}
	return nonEmpty(out), nil
}

// parseLabel reads one name="value" from the front of s.
func parseLabel(s string) (l labels.Label, rest string, err error) {
	end := nameEnd(s, false)
	if end == 0 {
		return l, "", errors.New("wanted a label name, [a-zA-Z_][a-zA-Z0-9_]*")
	}
	l.Name = s[:end]
	if !strings.HasPrefix(s[end:], `="`) {
		return l, "", fmt.Errorf("label %s: wanted =\"value\"", l.Name)
	}
	if l.Name == model.MetricNameLabel {
		return l, "", fmt.Errorf("label %s: the name comes before the brace", l.Name)
	}
	s = s[end+2:]
	plain := strings.IndexAny(s, "\"\\\n")
	if plain >= 0 && s[plain] == '"' { // the common case: nothing to unescape
		l.Value = s[:plain]
		return l, s[plain+1:], nil
	}
	l.Value, rest, err = unescape(s)
	if err != nil {
		err = fmt.Errorf("label %s: %w", l.Name, err)
	}
	return l, rest, err
}

// unescape reads a label value up to its closing quote: \\, \" and \n are its only escapes.
func unescape(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\n':
			return "", "", errors.New("line break in the value; wanted \\n")
		case '\\':
			i++
			if i == len(s) {
				return "", "", errors.New("value ends in a backslash")
			}
			switch s[i] {
			case '\\', '"':
				b.WriteByte(s[i])
			case 'n':
				b.WriteByte('\n')
			default:
				return "", "", fmt.Errorf("escape \\%c; wanted \\\\, \\\" or \\n", s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", errors.New("value has no closing quote")
}

// nameEnd returns the length of the metric or label name at the front of s.
func nameEnd(s string, metric bool) int {
	for i := range len(s) {
		c := s[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || metric && c == ':' || i > 0 && c >= '0' && c <= '9'
		if !ok {
			return i
		}
	}
	return len(s)
}

func nonEmpty(ls []labels.Label) []labels.Label {
	out := ls[:0]
	for _, l := range ls {
		if l.Value != "" {
			out = append(out, l)
		}
	}
	return out
}

// seriesLabels returns the full label set of a series of node: what the text says, with node and cluster added. A label
// of the same name in the text moves to exported_NAME, as Prometheus does with a scraped one.
func seriesLabels(cluster, node, text string) (labels.Labels, error) {
	parsed, err := parseSeries(text)
	if err != nil {
		return labels.EmptyLabels(), fmt.Errorf("%w: series %.80q: %w", ErrMalformed, text, err)
	}
	has := func(name string) bool {
		for _, l := range parsed {
			if l.Name == name {
				return true
			}
		}
		return false
	}
	for i, l := range parsed {
		if l.Name != labelNode && l.Name != labelCluster {
			continue
		}
		name := exportedLabel + l.Name
		for has(name) {
			name = exportedLabel + name
		}
		parsed[i].Name = name
	}
	b := labels.NewScratchBuilder(len(parsed) + 2)
	for _, l := range parsed {
		b.Add(l.Name, l.Value)
	}
	b.Add(labelNode, node)
	b.Add(labelCluster, cluster)
	b.Sort()
	return b.Labels(), nil
}
