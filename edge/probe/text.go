package probe

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Bounds of what a text source may send.
const (
	maxTextLine   = 8 << 10
	maxTextLabels = 64
)

// point is one sample line, valid until the next one is parsed.
type point struct {
	name   []byte
	labels []label // by name, so that one series has one form
	value  float64
}

type label struct{ name, value []byte }

// textParser reads the Prometheus text format, version 0.0.4, line by line. Strict: what the format does not allow is
// an error with its line number. Timestamps are checked and left out: the scrape has its own time.
type textParser struct {
	point  point
	plain  []byte // unescaped label values
	reader *bufio.Reader
}

// parse calls yield for every sample of r until r ends or a line is wrong.
func (p *textParser) parse(r io.Reader, yield func(*point)) error {
	if p.reader == nil {
		p.reader = bufio.NewReaderSize(nil, maxTextLine)
	}
	p.reader.Reset(r)
	defer p.reader.Reset(nil)
	for n := 1; ; n++ {
		line, err := p.reader.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("line %d: longer than %d bytes", n, maxTextLine)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d: %w", n, err)
		}
		sample, bad := p.line(bytes.TrimSuffix(line, []byte("\n")))
		if bad != nil {
			return fmt.Errorf("line %d: %w", n, bad)
		}
		if sample {
			yield(&p.point)
		}
		if err != nil {
			return nil
		}
	}
}

// line parses one line and reports whether it is a sample.
func (p *textParser) line(line []byte) (bool, error) {
	rest := skipBlanks(line)
	if len(rest) == 0 {
		return false, nil
	}
	if rest[0] == '#' {
		return false, checkComment(rest[1:])
	}
	n := nameLength(rest, true)
	if n == 0 {
		return false, fmt.Errorf("%.40q: wanted a metric name", rest)
	}
	p.point.name, p.point.labels, p.plain = rest[:n], p.point.labels[:0], p.plain[:0]
	rest = rest[n:]
	blank := len(rest) > 0 && isBlank(rest[0])
	rest = skipBlanks(rest)
	if len(rest) > 0 && rest[0] == '{' {
		var err error
		if rest, err = p.labels(rest[1:]); err != nil {
			return false, err
		}
	} else if !blank {
		return false, fmt.Errorf("%.40q: wanted a value after the metric name", line)
	}
	return true, p.value(rest)
}

// labels parses name="value", … } and returns what follows.
func (p *textParser) labels(rest []byte) ([]byte, error) {
	for {
		rest = skipBlanks(rest)
		if len(rest) > 0 && rest[0] == '}' {
			return rest[1:], nil
		}
		n := nameLength(rest, false)
		if n == 0 {
			return nil, fmt.Errorf("%.40q: wanted a label name or }", rest)
		}
		name := rest[:n]
		if rest = skipBlanks(rest[n:]); len(rest) == 0 || rest[0] != '=' {
			return nil, fmt.Errorf("label %.40q: wanted = after it", name)
		}
		if rest = skipBlanks(rest[1:]); len(rest) == 0 || rest[0] != '"' {
			return nil, fmt.Errorf(`label %.40q: wanted a value in ""`, name)
		}
		value, after, err := p.quoted(rest[1:])
		if err != nil {
			return nil, fmt.Errorf("label %.40q: %w", name, err)
		}
		if err := p.addLabel(name, value); err != nil {
			return nil, err
		}
		rest = skipBlanks(after)
		switch {
		case len(rest) > 0 && rest[0] == ',':
			rest = rest[1:]
		case len(rest) == 0 || rest[0] != '}':
			return nil, fmt.Errorf("label %.40q: wanted , or } after its value", name)
		}
	}
}

func (p *textParser) addLabel(name, value []byte) error {
	if string(name) == "__name__" {
		return errors.New("label __name__: wanted the name before the labels")
	}
	if len(p.point.labels) == maxTextLabels {
		return fmt.Errorf("more than %d labels", maxTextLabels)
	}
	at, twice := slices.BinarySearchFunc(p.point.labels, name, func(l label, name []byte) int { return bytes.Compare(l.name, name) })
	if twice {
		return fmt.Errorf("label %.40q is given twice", name)
	}
	p.point.labels = slices.Insert(p.point.labels, at, label{name, value})
	return nil
}

// quoted unescapes a label value up to its closing quote. The values of a line lie one after the other in p.plain;
// when that grows, earlier ones stay where they were.
func (p *textParser) quoted(rest []byte) (value, after []byte, err error) {
	start := len(p.plain)
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		if c == '"' {
			value = p.plain[start:len(p.plain):len(p.plain)]
			if !utf8.Valid(value) {
				return nil, nil, errors.New("value is not UTF-8")
			}
			return value, rest[i+1:], nil
		}
		if c == '\\' {
			if i++; i == len(rest) {
				break
			}
			switch rest[i] {
			case '\\', '"':
				c = rest[i]
			case 'n':
				c = '\n'
			default:
				return nil, nil, fmt.Errorf(`escape \%c: wanted \\, \" or \n`, rest[i])
			}
		}
		p.plain = append(p.plain, c)
	}
	return nil, nil, errors.New("value does not end")
}

// value parses the number and an optional timestamp, to the end of the line.
func (p *textParser) value(rest []byte) error {
	field, rest := cutField(rest)
	v, ok := parseFloat(field)
	if !ok {
		return fmt.Errorf("value %.40q: wanted a number, NaN, +Inf or -Inf", field)
	}
	p.point.value = v
	stamp, rest := cutField(rest)
	if len(stamp) > 0 {
		if _, err := strconv.ParseInt(string(stamp), 10, 64); err != nil {
			return fmt.Errorf("timestamp %.40q: wanted whole milliseconds", stamp)
		}
	}
	if more, _ := cutField(rest); len(more) > 0 {
		return fmt.Errorf("%.40q: wanted the end of the line", more)
	}
	return nil
}

// appendSeries writes the series of p with its labels in their order. A label with an empty value is the same as none.
func (p *point) appendSeries(buf []byte) []byte {
	buf = append(buf, p.name...)
	sep := byte('{')
	for _, l := range p.labels {
		if len(l.value) == 0 {
			continue
		}
		buf = append(append(buf, sep), l.name...)
		buf = append(buf, '=')
		buf = appendQuoted(buf, l.value)
		sep = ','
	}
	if sep == ',' {
		buf = append(buf, '}')
	}
	return buf
}

// checkComment checks HELP and TYPE; any other comment is free.
func checkComment(rest []byte) error {
	word, rest := cutField(rest)
	kind := string(word)
	if kind != "HELP" && kind != "TYPE" {
		return nil
	}
	name, rest := cutField(rest)
	if n := nameLength(name, true); n == 0 || n != len(name) {
		return fmt.Errorf("%s %.40q: wanted a metric name", kind, name)
	}
	if kind == "HELP" {
		return nil
	}
	typ, rest := cutField(rest)
	switch string(typ) {
	case "counter", "gauge", "histogram", "summary", "untyped":
	default:
		return fmt.Errorf("TYPE %.40q: wanted counter, gauge, histogram, summary or untyped", typ)
	}
	if more, _ := cutField(rest); len(more) > 0 {
		return fmt.Errorf("%.40q: wanted the end of the line", more)
	}
	return nil
}

// nameLength is how many bytes of b are a metric name (colons allowed) or a label name.
func nameLength(b []byte, colon bool) int {
	for i, c := range b {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || colon && c == ':'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(b)
}

func skipBlanks(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	return b
}

// validSeries reports whether s is a series as this package writes it.
func validSeries(s string) bool {
	var p textParser
	sample, err := p.line([]byte(s + " 0"))
	return sample && err == nil && string(p.point.appendSeries(nil)) == s
}
