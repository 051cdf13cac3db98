package workload

import (
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// environment is what a container gets: its variables, then those that are sealed; a later one of the same name wins. In the
// value of one that is not sealed, $(NAME) is the value of one before it or of a sealed one.
func environment(plain, sealed []api.EnvVar) map[string]string {
	values := map[string]string{}
	for _, e := range sealed {
		values[e.Name] = e.Value
	}
	for _, e := range plain {
		if !slices.ContainsFunc(sealed, func(s api.EnvVar) bool { return s.Name == e.Name }) {
			values[e.Name] = expand(e.Value, values)
		}
	}
	return values
}

// expandAll expands every text of list.
func expandAll(list []string, values map[string]string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, expand(s, values))
	}
	return out
}

// expand puts values in the place of $(NAME), as Kubernetes does: an unknown name stays as it is, $$ is a $ that begins
// nothing.
func expand(s string, values map[string]string) string {
	var out strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 || at == len(s)-1 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:at])
		s = s[at+1:]
		switch end := strings.IndexByte(s, ')'); {
		case s[0] == '$':
			out.WriteByte('$')
			s = s[1:]
		case s[0] == '(' && end > 0:
			value, known := values[s[1:end]]
			if !known {
				value = "$" + s[:end+1]
			}
			out.WriteString(value)
			s = s[end+1:]
		default:
			out.WriteByte('$')
		}
	}
}
