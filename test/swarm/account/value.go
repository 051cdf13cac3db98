package account

import (
	"fmt"
	"strconv"
	"strings"
)

// The bounds of what a Value has room for.
const (
	MaxNodes  = 1 << 17
	MaxSeries = 1 << 12
	MaxRows   = 1 << 24
)

// Value is the sample of a series in a row of a node: a whole number below 2⁵³, which a float64 holds exactly, with 17
// bits for the node, 12 for the series and 24 for the row.
func Value(node, series, row int) float64 {
	return float64(uint64(node)<<36 | uint64(series)<<24 | uint64(row))
}

// ParseValue is the inverse of Value; ok is false for what Value never returns.
func ParseValue(v float64) (node, series, row int, ok bool) {
	u := uint64(v)
	if v < 0 || v >= 1<<53 || float64(u) != v {
		return 0, 0, 0, false
	}
	return int(u >> 36), int(u >> 24 & (MaxSeries - 1)), int(u & (MaxRows - 1)), true
}

// seriesPrefix begins the name of every series.
const seriesPrefix = "swarm_s"

// SeriesName is the name of a series: the same in every node.
func SeriesName(series int) string { return fmt.Sprint(seriesPrefix, series) }

// seriesOf is the inverse of SeriesName, -1 for other names.
func seriesOf(name string) int {
	digits, ok := strings.CutPrefix(name, seriesPrefix)
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || SeriesName(n) != name {
		return -1
	}
	return n
}

// IsSeries tells whether a name is that of a series of the accounting.
func IsSeries(name string) bool { return seriesOf(name) >= 0 }

// Samples are some samples of some nodes, by node and value: a value tells the series and the row.
type Samples map[string]map[float64]bool

// Add puts one in.
func (s Samples) Add(node string, value float64) {
	if s[node] == nil {
		s[node] = map[float64]bool{}
	}
	s[node][value] = true
}

// Has tells whether one is there.
func (s Samples) Has(node string, value float64) bool { return s[node][value] }

// Without are those of s that o lacks.
func (s Samples) Without(o Samples) Samples {
	out := Samples{}
	for node, values := range s {
		for v := range values {
			if !o.Has(node, v) {
				out.Add(node, v)
			}
		}
	}
	return out
}
