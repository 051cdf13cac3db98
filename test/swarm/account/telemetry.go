package account

import (
	"slices"

	"github.com/skerry-edge/skerry/api"
)

// Telemetry is the truth about what one node measured: eight bytes and a bit for each row. Not for concurrent use.
type Telemetry struct {
	Series int // in each row

	at    []int64  // time of each row, milliseconds since 1970
	acked []uint64 // a bit for each row: the cluster agent said that it has it
}

// Rows is how many were made.
func (t *Telemetry) Rows() int { return len(t.at) }

// Times are those of all rows, as they were made or last went out.
func (t *Telemetry) Times() []int64 { return slices.Clone(t.at) }

// Made notes new rows.
func (t *Telemetry) Made(times []int64) {
	t.at = append(t.at, times...)
	for len(t.acked)*64 < len(t.at) {
		t.acked = append(t.acked, 0)
	}
}

// Sent notes the time with which a row went out: the outbox may have corrected it.
func (t *Telemetry) Sent(row int, at int64) {
	if row < len(t.at) {
		t.at[row] = at
	}
}

// Acked notes rows of an acknowledged batch and returns how many were not known to be safe.
func (t *Telemetry) Acked(rows []int32) (fresh int) {
	for _, r := range rows {
		if int(r) < len(t.at) && !t.safe(int(r)) {
			t.acked[r/64] |= 1 << (r % 64)
			fresh++
		}
	}
	return fresh
}

func (t *Telemetry) safe(row int) bool { return t.acked[row/64]>>(row%64)&1 == 1 }

// Node is the truth about a node when the accounting is made: its telemetry, what its outbox says that it gave up, what it
// still holds, and the desired document that it accepted last.
type Node struct {
	ID        string
	Index     int
	Online    bool
	Telemetry *Telemetry
	Dropped   api.Dropped
	Held      int // batches
	Desired   uint64
}
