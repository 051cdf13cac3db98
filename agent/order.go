package agent

import "sort"

// Order sorts s by compare, which is as that of slices.SortFunc; equal elements keep their order. slices compiles the whole
// of its sort anew for each type, 6 KiB of the node agent's program at each of five places: ADR 7.
func Order[T any](s []T, compare func(a, b T) int) {
	sort.Stable(order{len(s), func(i, j int) bool { return compare(s[i], s[j]) < 0 }, func(i, j int) { s[i], s[j] = s[j], s[i] }})
}

type order struct {
	length int
	less   func(i, j int) bool
	swap   func(i, j int)
}

func (o order) Len() int           { return o.length }
func (o order) Less(i, j int) bool { return o.less(i, j) }
func (o order) Swap(i, j int)      { o.swap(i, j) }
