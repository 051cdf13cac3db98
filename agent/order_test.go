package agent

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestOrderIsThatOfSlicesSortStableFunc(t *testing.T) {
	type pair struct{ key, number int }
	byKey := func(a, b pair) int { return cmp.Compare(a.key, b.key) }
	for length := range 100 {
		got := make([]pair, length)
		for i := range got {
			got[i] = pair{rand.IntN(10), i}
		}
		want := slices.Clone(got)
		slices.SortStableFunc(want, byKey)
		Order(got, byKey)
		if !slices.Equal(got, want) {
			t.Fatalf("%v; wanted %v", got, want)
		}
	}
}
