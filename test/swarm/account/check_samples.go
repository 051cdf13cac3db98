package account

import "fmt"

// Tally is the sum of the telemetry, in samples.
type Tally struct {
	Made     uint64 `json:"made"`
	Acked    uint64 `json:"acked"`
	Stored   uint64 `json:"stored"`
	Missing  uint64 `json:"missing"`  // made, and not stored
	Reported uint64 `json:"reported"` // given up, as the nodes' outboxes say
	Lost     uint64 `json:"lost"`     // of the missing: acknowledged, and then taken by damage
}

func (t *Tally) add(o Tally) {
	t.Made += o.Made
	t.Acked += o.Acked
	t.Stored += o.Stored
	t.Missing += o.Missing
	t.Reported += o.Reported
	t.Lost += o.Lost
}

// maxDetails bounds the samples of one node that are named one by one.
const maxDetails = 5

// checkSamples compares every sample that a node made with every sample that a view shows of it: nothing is there that was
// not made, or at another time, or twice; nothing is absent that was acknowledged, unless it is one of those that damage took;
// and what else is absent is exactly what the outbox reported as given up. Only samples that are stored although no ack for
// them came may have been given up as well.
func checkSamples(view string, n *Node, samples []Sample, lost Samples) (sum Tally, bad []Violation) {
	t := n.Telemetry
	details := 0
	say := func(format string, args ...any) {
		if details++; details <= maxDetails {
			bad = append(bad, Violation{"telemetry", n.ID, view + " " + fmt.Sprintf(format, args...)})
		}
	}
	seen := make([]bool, t.Rows()*t.Series)
	for _, s := range samples {
		node, series, row, ok := ParseValue(s.Value)
		switch {
		case !ok || node != n.Index || series != s.Series || series >= t.Series || row >= t.Rows():
			say("has the value %.0f in series %d at %d, which the node never made", s.Value, s.Series, s.At)
		case t.at[row] != s.At:
			say("has row %d of series %d at %d; it was made at %d", row, series, s.At, t.at[row])
		case seen[row*t.Series+series]:
			say("has row %d of series %d twice", row, series)
		default:
			seen[row*t.Series+series] = true
			sum.Stored++
		}
	}
	unacked := uint64(0) // stored, although no ack came
	for row := range t.at {
		for series := range t.Series {
			there := seen[row*t.Series+series]
			switch {
			case there && !t.safe(row):
				unacked++
			case !there && t.safe(row) && lost.Has(n.ID, Value(n.Index, series, row)):
				sum.Lost++
			case !there && t.safe(row):
				say("lacks row %d of series %d, which was acknowledged; it went out as of %d", row, series, t.at[row])
			}
			if !there {
				sum.Missing++
			}
			if t.safe(row) {
				sum.Acked++
			}
		}
	}
	sum.Made = uint64(t.Rows() * t.Series)
	sum.Reported = n.Dropped.Samples + n.Dropped.Downsampled
	switch {
	case n.Held > 0:
		say("cannot be judged: the node still holds %d batches", n.Held)
	case sum.Missing-sum.Lost > sum.Reported || sum.Missing-sum.Lost+unacked < sum.Reported:
		say("lacks %d samples of %d; the node reports %d as given up, and %d are there without an ack", sum.Missing, sum.Made, sum.Reported, unacked)
	}
	if details > maxDetails {
		bad = append(bad, Violation{"telemetry", n.ID, fmt.Sprintf("%s has %d more differences like these", view, details-maxDetails)})
	}
	return sum, bad
}
