package command

import "github.com/skerry-edge/skerry/api"

// Stats is what a Journal counted since it was made, and how much it holds.
type Stats struct {
	Open, Finals, Connected int // commands open, final ones kept, nodes that can be delivered to

	Succeeded, Failed, Rejected, Cancelled, TimedOut, Expired uint64 // ended, by phase

	Refused        uint64 // submissions beyond a bound
	Deliveries     uint64 // handed to the Deliverer
	Redeliveries   uint64 // of these, again in the same session
	DeliveryErrors uint64
	Statuses       uint64 // from nodes
	Ignored        uint64 // of these, duplicates and overtaken ones
	Unknown        uint64 // of these, for no command of that node
	Late           uint64 // of these, after the close
	Conflicts      uint64 // of these, a second and different end
	AcksDropped    uint64 // not in an ack because it was full; the node asks again
	Retired        uint64 // final records that the retention policy dropped

	Commits, Writes uint64 // transactions, and changes in them
	Watchers        int
	WatchersDropped uint64 // closed because they fell behind
}

// Stats returns the numbers of now.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	s := j.stats
	s.Open, s.Finals, s.Connected = len(j.open), j.finals, len(j.links)
	j.mu.Unlock()
	s.Commits, s.Writes = j.group.Stats()
	s.Watchers, s.WatchersDropped = j.feed.Stats()
	return s
}

// count counts an end.
func (s *Stats) count(p api.Phase) {
	switch p {
	case api.PhaseSucceeded:
		s.Succeeded++
	case api.PhaseFailed:
		s.Failed++
	case api.PhaseRejected:
		s.Rejected++
	case api.PhaseCancelled:
		s.Cancelled++
	case api.PhaseTimedOut:
		s.TimedOut++
	case api.PhaseExpired:
		s.Expired++
	}
}
