package probe

import "strings"

// seriesName writes name{label="value",…}. pairs alternate label and value; the caller gives them in label order.
func seriesName(name string, pairs ...string) string {
	if len(pairs) == 0 {
		return name
	}
	buf := make([]byte, 0, len(name)+32*len(pairs))
	buf = append(buf, name...)
	for i := 0; i+1 < len(pairs); i += 2 {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		buf = append(buf, sep)
		buf = append(buf, pairs[i]...)
		buf = append(buf, '=')
		buf = appendQuoted(buf, strings.ToValidUTF8(pairs[i+1], "\uFFFD"))
	}
	return string(append(buf, '}'))
}

// appendQuoted writes a label value with the three escapes of the text format, version 0.0.4.
func appendQuoted[T string | []byte](buf []byte, value T) []byte {
	buf = append(buf, '"')
	for i := range len(value) {
		switch c := value[i]; c {
		case '\\', '"':
			buf = append(buf, '\\', c)
		case '\n':
			buf = append(buf, '\\', 'n')
		default:
			buf = append(buf, c)
		}
	}
	return append(buf, '"')
}

// seriesNames builds one series per metric name, all with the same labels.
func seriesNames(names []string, pairs ...string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = seriesName(name, pairs...)
	}
	return out
}
