package schedule

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestComesDueLikeASortedList compares with the obvious implementation over random operations.
func TestComesDueLikeASortedList(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	epoch := time.UnixMilli(1_700_000_000_000)
	var s Schedule
	model := map[string]time.Time{}
	for step := range 20_000 {
		key := strconv.Itoa(rng.IntN(50))
		switch rng.IntN(4) {
		case 0, 1:
			at := epoch.Add(time.Duration(rng.IntN(1_000_000)) * time.Microsecond)
			s.Set(key, at)
			model[key] = at
		case 2:
			s.Remove(key)
			delete(model, key)
		case 3:
			now, limit := epoch.Add(time.Duration(rng.IntN(1000))*time.Millisecond), 1+rng.IntN(10)
			var want []string
			for k, at := range model {
				if !at.After(now) {
					want = append(want, k)
				}
			}
			slices.SortFunc(want, func(a, b string) int { return model[a].Compare(model[b]) })
			want = want[:min(limit, len(want))]
			got := s.Due(now, limit)
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: due %v; wanted %v", step, got, want)
			}
			for _, k := range got {
				delete(model, k)
			}
		}
		if s.Len() != len(model) {
			t.Fatalf("step %d: %d keys; wanted %d", step, s.Len(), len(model))
		}
		first, ok := s.Next()
		for _, at := range model {
			if !ok || at.Before(first) {
				t.Fatalf("step %d: next is %v (%v), but %v is earlier", step, first, ok, at)
			}
		}
	}
}
