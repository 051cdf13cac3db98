package telemetry

import "testing"

func TestWatermarkMovesOnlyAlongTheChain(t *testing.T) {
	type step struct{ epoch, seq, prev, mark uint64 }
	const refused = ^uint64(0)
	for name, steps := range map[string][]step{
		"in order":              {{1, 1, 0, 1}, {1, 2, 1, 2}, {1, 3, 2, 3}},
		"duplicate":             {{1, 1, 0, 1}, {1, 2, 1, 2}, {1, 1, 0, 2}, {1, 2, 1, 2}},
		"one astray":            {{1, 1, 0, 1}, {1, 3, 2, refused}, {1, 2, 1, 2}, {1, 3, 2, 3}},
		"node dropped some":     {{1, 1, 0, 1}, {1, 9, 1, 9}},
		"nothing held before":   {{1, 1, 0, 1}, {1, 5, 0, 5}},
		"unknown, in mid-chain": {{1, 7, 6, refused}, {1, 6, 0, 6}, {1, 7, 6, 7}},
		"epochs are apart":      {{1, 5, 0, 5}, {2, 1, 0, 1}, {2, 6, 5, refused}, {1, 6, 5, 6}},
		"an old epoch late":     {{9, 1, 0, 1}, {3, 4, 0, 4}, {3, 5, 4, 5}, {9, 2, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			var w Watermark
			for i, st := range steps {
				before := w.At(st.epoch)
				mark, ok := w.Accept(st.epoch, st.seq, st.prev)
				switch {
				case st.mark == refused && (ok || mark != before || w.At(st.epoch) != before):
					t.Errorf("step %d: got %d, %v; wanted a refusal at %d", i, mark, ok, before)
				case st.mark != refused && (!ok || mark != st.mark || w.At(st.epoch) != mark):
					t.Errorf("step %d: got %d, %v; wanted %d", i, mark, ok, st.mark)
				}
			}
		})
	}
}

func TestWatermarkForgetsTheEpochNotHeardOfLongest(t *testing.T) {
	var w Watermark
	for e := uint64(1); e <= maxEpochs; e++ {
		w.Accept(e, 10, 0)
	}
	w.Accept(1, 11, 10) // heard of again
	w.Accept(100, 1, 0)
	if w.At(1) != 11 || w.At(2) != 0 || w.At(100) != 1 || len(w.epochs) != maxEpochs {
		t.Errorf("epochs %v; wanted 2 forgotten", w.epochs)
	}
	if _, ok := w.Accept(200, 5, 4); ok || w.At(3) != 10 {
		t.Error("a message off the chain pushed an epoch out")
	}
}
