package outbox

import (
	"slices"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The limits of merging. A merged batch stays well under the wire's limit, and one run little enough to decode at once
// on a device with 64 MiB of memory.
const (
	thinFloor      = 10 * time.Minute // rows are never thinned to fewer than one in this time
	maxRunRecords  = 64
	maxRunBytes    = 96 << 10
	maxClockJitter = 1000 // ms by which wall and boot clock may disagree within one batch
)

// runLength returns how many of the records at the front of metas can become one batch: neighbours of one epoch, one
// boot, one quality of time and one list of series.
func runLength(metas []meta) int {
	n, size, rows := 0, int64(0), 0
	for i := range metas {
		m := &metas[i]
		size += int64(m.size)
		rows += int(m.rows)
		if n > 0 && (!adjoins(&metas[0], m) || n == maxRunRecords || size > maxRunBytes || rows > api.MaxRows) {
			break
		}
		n++
	}
	return n
}

func adjoins(a, b *meta) bool {
	skew := (b.at - a.at) - (b.mono - a.mono)
	return a.epoch == b.epoch && a.boot == b.boot && a.quality == b.quality && a.shape == b.shape &&
		skew <= maxClockJitter && skew >= -maxClockJitter
}

// thinnable reports whether thinning the run can drop a row at all: some gap is closer than the floor.
func thinnable(run []meta) bool {
	rows := 0
	for i := range run {
		rows += int(run[i].rows)
	}
	return rows >= 2 && run[len(run)-1].end-run[0].at < int64(rows-1)*thinFloor.Milliseconds()
}

// join makes one batch of a run, oldest first. It keeps the last seq, so that the chain of Prev and any ack stay valid,
// and the first T0 and Mono. It returns false when the batches do not fit together after all.
func join(run []api.Batch) (api.Batch, bool) {
	out := run[0]
	out.Rows = slices.Clone(out.Rows)
	for i := 1; i < len(run); i++ {
		b := &run[i]
		if !slices.Equal(b.Series, out.Series) {
			return api.Batch{}, false
		}
		shift := int64(b.T0 - out.T0)
		for _, r := range b.Rows {
			out.Rows = append(out.Rows, api.Row{OffsetMillis: r.OffsetMillis + shift, Values: r.Values})
		}
		out.Seq = b.Seq
	}
	return out, true
}

// thin drops every second row of b where that leaves no gap wider than the floor, and always keeps the last row. Rows
// keep the samples they had: a counter or gauge is never averaged. It returns the number of samples dropped.
func thin(b *api.Batch) (dropped uint64) {
	floor := thinFloor.Milliseconds()
	kept := b.Rows[:0:0]
	skipped := true // so that the first row is kept, and the gap to the batch before does not grow
	for i, r := range b.Rows {
		last := i == len(b.Rows)-1
		if !last && !skipped && b.Rows[i+1].OffsetMillis-kept[len(kept)-1].OffsetMillis <= floor {
			skipped = true
			dropped += present(&r)
			continue
		}
		skipped = false
		kept = append(kept, r)
	}
	b.Rows = kept
	return dropped
}

func present(r *api.Row) uint64 {
	one := api.Batch{Rows: []api.Row{*r}}
	return uint64(one.Samples())
}
