package enroll

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// This is how two records of one node become one, the same at every replica, in whatever order they come.

// admissionRecord is what another replica knows of a node.
func admissionRecord(a *api.Admission) nodeRecord {
	n := nodeRecord{ID: a.Node, Key: a.KeySHA256, Enrolled: a.Enrolled, Admitted: a.Admitted, Labels: a.Labels, User: a.UserLabels,
		Labelled: a.Labelled, Removed: a.Removed, By: a.By, Revision: a.Revision}
	for _, c := range a.Certificates {
		n.Certs = append(n.Certs, certRecord{Serial: c.Serial, SHA256: c.SHA256, Issued: c.Issued, NotAfter: c.NotAfter})
	}
	return n
}

func (n *nodeRecord) revision() uint64 { return max(n.Revision, 1) }

// prevails says which of two records counts, above 0 when it is n: a removal over what was admitted before it, what was
// admitted after a removal over that, and of two devices, or two admissions of one, the later.
func (n *nodeRecord) prevails(o *nodeRecord) int {
	switch {
	case n.Removed != 0 && o.Removed == 0:
		return cmp.Or(cmp.Compare(n.Removed, o.Admitted), 1)
	case n.Removed == 0 && o.Removed != 0:
		return -o.prevails(n)
	}
	return cmp.Or(cmp.Compare(n.Admitted, o.Admitted), cmp.Compare(n.Key, o.Key), cmp.Compare(n.Removed, o.Removed), cmp.Compare(n.By, o.By))
}

// joined is what mine and told make together at now, and the one of them that is over: another device, or the same one before
// it was removed and came back.
func joined(mine, told nodeRecord, now api.Millis) (n nodeRecord, lost *nodeRecord) {
	winner, loser := mine, told
	if told.prevails(&mine) > 0 {
		winner, loser = told, mine
	}
	n = winner
	n.Token, n.Host = mine.Token, mine.Host // told has none
	switch {
	case winner.Removed == 0 && loser.Removed != 0, winner.Key != loser.Key:
		lost = &loser
	default:
		n.Certs = unexpired(append(slices.Clone(mine.Certs), told.Certs...), now)
	}
	if winner.Removed == 0 && loser.Removed == 0 {
		n.Enrolled = min(winner.Enrolled, loser.Enrolled)
		if c := cmp.Compare(loser.Labelled, winner.Labelled); c > 0 || c == 0 && compareLabels(loser.User, winner.User) > 0 {
			n.User, n.Labelled = loser.User, loser.Labelled
		}
	}
	return n, lost
}

// unexpired are the certificates of list that are good at now, each once, oldest first. One that somebody has the bytes of
// keeps them.
func unexpired(list []certRecord, now api.Millis) (out []certRecord) {
	for _, c := range list {
		i := slices.IndexFunc(out, func(o certRecord) bool { return o.Serial == c.Serial })
		switch {
		case c.NotAfter <= now:
		case i < 0:
			out = append(out, c)
		case out[i].DER == nil:
			out[i].DER = c.DER
		}
	}
	slices.SortFunc(out, func(a, b certRecord) int {
		return cmp.Or(cmp.Compare(a.Issued, b.Issued), cmp.Compare(a.Serial, b.Serial))
	})
	return out
}

// same reports whether n says nothing else than o does, at now.
func (n *nodeRecord) same(o nodeRecord, now api.Millis) bool {
	serial := func(a, b certRecord) bool { return a.Serial == b.Serial }
	return n.Key == o.Key && n.Admitted == o.Admitted && n.Enrolled == o.Enrolled && n.Removed == o.Removed && n.By == o.By &&
		n.Labelled == o.Labelled && maps.Equal(n.User, o.User) && maps.Equal(n.Labels, o.Labels) &&
		slices.EqualFunc(unexpired(n.Certs, now), unexpired(o.Certs, now), serial)
}

// compareLabels puts labels in an order, whichever.
func compareLabels(a, b map[string]string) int {
	flat := func(m map[string]string) (out []string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			out = append(out, k, m[k])
		}
		return out
	}
	return slices.Compare(flat(a), flat(b))
}

// forgettable reports whether n is a tombstone whose certificates nobody could use any more, renewals included.
func (s *Service) forgettable(n nodeRecord, now time.Time) bool {
	return n.Removed != 0 && now.After(max(n.Removed, n.lastExpiry()).Time().Add(s.cfg.Grace))
}
