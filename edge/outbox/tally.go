package outbox

import "github.com/skerry-edge/skerry/api"

// tally is what a tier holds, by class.
type tally struct {
	Count   [classes]int `json:"count"`
	Samples uint64       `json:"samples"`
	Bytes   int64        `json:"bytes"`
}

func (t *tally) add(m *meta) {
	t.Count[m.class]++
	t.Samples += uint64(m.samples)
	t.Bytes += m.bytes()
}

func (t *tally) sub(m *meta) {
	t.Count[m.class]--
	t.Samples -= uint64(m.samples)
	t.Bytes -= m.bytes()
}

// less reports whether t lacks anything of what o has.
func (t *tally) less(o *tally) bool {
	for c := range t.Count {
		if t.Count[c] < o.Count[c] {
			return true
		}
	}
	return t.Samples < o.Samples
}

func (t *tally) stream(s stream) int {
	if s == tele {
		return t.Count[classTelemetry]
	}
	return t.Count[classEvent] + t.Count[classAlarm]
}

func (t *tally) empty() bool { return t.Count == [classes]int{} }

// state is the little that must outlive the records: what was given up, and what the flash should hold, so that what a
// damaged file took with it can be counted. Version grows with every change; counters never fall.
type state struct {
	Version     uint64      `json:"version"`
	Dropped     api.Dropped `json:"dropped"`
	Corruptions uint64      `json:"corruptions"` // damaged outbox.db files set aside
	Torn        uint64      `json:"torn"`        // damaged stretches of the hot file
	Unreadable  uint64      `json:"unreadable"`  // bytes of damage in which nothing could be recognized
	Full        uint64      `json:"full"`        // writes that flash refused: full, read-only, failing
	Opens       uint64      `json:"opens"`       // starts of the agent
	FlashBytes  uint64      `json:"flashBytes"`
	Cold        tally       `json:"cold"`     // what outbox.db holds, acknowledged or not
	Reported    api.Dropped `json:"reported"` // what the last outbox.dropped event told
	// StampBoot and StampMillis fix what was once decided about this boot's wrong clock (wall time at boot), so that a
	// batch that is sent twice is stamped the same twice. Zero until decided.
	StampBoot   uint64 `json:"stampBoot,omitempty"`
	StampMillis int64  `json:"stampMillis,omitempty"`
	Sent        []mark `json:"sent,omitempty"` // what is in doubt, see doubts
	Alone       tally  `json:"alone,omitzero"` // what was in memory alone: gone, and counted, when a later life reads this
}

// worthKeeping reports whether anything in st must outlive an empty outbox.
func (st *state) worthKeeping() bool {
	return st.Dropped != api.Dropped{} || st.Corruptions != 0 || st.Unreadable != 0
}

// newest merges two copies of the state: the later one, with counters that never fall.
func newest(a, b state) state {
	out := a
	if b.Version > a.Version {
		out = b
	}
	out.Dropped = maxDropped(a.Dropped, b.Dropped)
	out.Reported = maxDropped(a.Reported, b.Reported)
	out.Corruptions = max(a.Corruptions, b.Corruptions)
	out.Torn = max(a.Torn, b.Torn)
	out.Unreadable = max(a.Unreadable, b.Unreadable)
	out.Full = max(a.Full, b.Full)
	out.Opens = max(a.Opens, b.Opens)
	out.FlashBytes = max(a.FlashBytes, b.FlashBytes)
	out.Sent = mergeMarks(a.Sent, b.Sent)
	return out
}

func maxDropped(a, b api.Dropped) api.Dropped {
	return api.Dropped{Alarms: max(a.Alarms, b.Alarms), Events: max(a.Events, b.Events), Batches: max(a.Batches, b.Batches),
		Samples: max(a.Samples, b.Samples), Downsampled: max(a.Downsampled, b.Downsampled)}
}

// countDropped adds a record that was given up.
func countDropped(d *api.Dropped, m *meta) {
	switch m.class {
	case classAlarm:
		d.Alarms++
	case classEvent:
		d.Events++
	default:
		d.Batches++
		d.Samples += uint64(m.samples)
	}
}

// countLost adds the difference between what a tier should hold and what was found in it.
func countLost(d *api.Dropped, want, got *tally) {
	missing := func(c class) uint64 { return uint64(max(0, want.Count[c]-got.Count[c])) }
	d.Alarms += missing(classAlarm)
	d.Events += missing(classEvent)
	d.Batches += missing(classTelemetry)
	if want.Samples > got.Samples {
		d.Samples += want.Samples - got.Samples
	}
}
