package fault

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// evidence is all that tells what became of a node agent's scrapes of the ticker.
type evidence struct {
	served  []time.Time // when, by number from 1
	since   int         // so many are of earlier rounds
	stored  map[int][]time.Time
	failed  []time.Time // rows in which the agent says that it got no answer
	old     rows        // of these, those of earlier rounds
	births  []time.Time // of its lives
	wrong   bool        // a clock was wrong: rows may be dated out of their order
	cutLog  map[float64]bool
	took    ticks
	told    told
	dropped api.Dropped // in this round
	row     int         // samples in a row, about
}

// evidence gathers it.
func (r *Round) evidence(ctx context.Context, edge string) (*evidence, error) {
	e := &evidence{served: r.rig.ticks[edge].all(), since: r.since[edge], stored: map[int][]time.Time{}, births: r.rig.process(edge).Births(),
		wrong: r.Schedule.touches("clock", edge) || r.Schedule.touches("clock", tierCluster)}
	there, err := r.rig.stored(ctx, tickSeries, edge)
	if err != nil {
		return nil, err
	}
	for _, s := range there {
		e.stored[int(s.value)] = append(e.stored[int(s.value)], s.at)
	}
	e.old = r.failed[edge]
	if e.failed, err = r.rig.failures(ctx, edge, time.Second); err != nil {
		return nil, err
	}
	if e.told, err = r.edgeTold(ctx, edge); err != nil {
		return nil, err
	}
	st, err := r.rig.status(ctx, edge)
	if err != nil {
		return nil, err
	}
	e.dropped = since(st.Backlog.Dropped, r.dropped[edge])
	if e.row, err = r.rig.seriesOf(ctx, edge); err != nil {
		return nil, err
	}
	r.rig.mu.Lock()
	defer r.rig.mu.Unlock()
	e.cutLog, e.took = maps.Clone(r.rig.lost[edge]), ticks{}
	for n := range r.rig.unmended(edge) {
		e.took[n] = true
	}
	maps.Copy(e.took, r.rig.took[edge])
	return e, nil
}

// rows are some of a node's, by their dates.
type rows map[int64]bool

func rowsAt(dates []time.Time) rows {
	out := rows{}
	for _, at := range dates {
		out[at.UnixMilli()] = true
	}
	return out
}

// aDayAhead is further than any clock of a schedule jumps ahead.
const aDayAhead = 25 * time.Hour

// failures are the dates of the rows, up to so far ahead of now, in which a node agent says that it got no answer of the ticker.
func (r *Rig) failures(ctx context.Context, edge string, ahead time.Duration) (dates []time.Time, err error) {
	how, err := r.selectedUntil(ctx, fmt.Sprintf(`node_scrape_collector_success{node=%q,collector="tick"}`, edge), time.Now().Add(ahead), 36*time.Hour+ahead)
	for _, s := range how {
		if s.value == 0 {
			dates = append(dates, s.at)
		}
	}
	return dates, err
}

// since is what was given up since then. Counters that fell are of a state that was damaged, and tell nothing.
func since(now, then api.Dropped) api.Dropped {
	if now.Batches < then.Batches || now.Downsampled < then.Downsampled {
		return now
	}
	return api.Dropped{Batches: now.Batches - then.Batches, Samples: now.Samples - then.Samples, Downsampled: now.Downsampled - then.Downsampled}
}

// lastWords is how many answers of the ticker a life that ends may take along: the one on its way, and one that came too
// late for its row and waits for the next.
const lastWords = 2

// judge compares what was served with what is stored. Each scrape that is missing needs a reason of its own, and each
// reason excuses no more than it can have taken.
func (e *evidence) judge(edge string) (sum account.Tally, bad []string) {
	missing := ticks{}
	for n := e.since + 1; n <= len(e.served); n++ {
		sum.Made++
		switch times := e.stored[n]; {
		case len(times) > 1:
			bad = append(bad, fmt.Sprintf("%s: scrape %d is stored %d times", edge, n, len(times)))
			sum.Stored++
		case len(times) == 1:
			sum.Stored++
		default:
			sum.Missing++
			missing[n] = true
		}
	}
	for n := range missing { // a record of the telemetry's log that damage took, and was acknowledged before
		if e.cutLog[float64(n)] {
			delete(missing, n)
		}
	}
	e.excuseEnds(missing)
	e.excuseFailures(missing)
	untold := e.excuseDamage(missing)
	sum.Reported = e.dropped.Samples + e.dropped.Downsampled
	given := e.dropped.Batches - min(e.told.batches, e.dropped.Batches) // a batch is a row; what damage took is excused by itself
	if e.row > 0 {
		given += 2 * e.dropped.Downsampled / uint64(e.row) // a row has at least half of the series that its node has
	}
	if uint64(len(missing)) > given {
		bad = append(bad, fmt.Sprintf("%s: scrapes %s are missing; it reports %d batches and %d single samples as given up, %d batches of these as damaged%s",
			edge, e.list(missing), e.dropped.Batches, e.dropped.Downsampled, e.told.batches, untold))
	}
	return sum, bad
}

// excuseEnds: the last answers of each life were not in the outbox yet when it ended.
func (e *evidence) excuseEnds(missing ticks) {
	for i, born := range e.births {
		last := len(e.served)
		if i+1 == len(e.births) {
			break // it lives
		}
		for last > 0 && !e.served[last-1].Before(e.births[i+1]) {
			last--
		}
		for n := last; n > max(0, last-lastWords) && !e.served[n-1].Before(born); n-- {
			delete(missing, n)
		}
	}
}

// excuseFailures: an answer that the agent gave up on before it had come is told in its row by node_scrape_collector_success.
// That row lies between those of the answers before and after, one row for each, unless a clock was wrong: then it is any of this round.
func (e *evidence) excuseFailures(missing ticks) {
	failed := slices.SortedFunc(slices.Values(e.failed), time.Time.Compare)
	failed = slices.DeleteFunc(failed, func(at time.Time) bool { return e.old[at.UnixMilli()] })
	for _, n := range slices.Sorted(maps.Keys(missing)) {
		from, to := e.neighbours(n)
		i := slices.IndexFunc(failed, func(at time.Time) bool { return e.wrong || at.After(from) && at.Before(to) })
		if i >= 0 {
			failed = slices.Delete(failed, i, i+1)
			delete(missing, n)
		}
	}
}

// together is how close in time answers may be given in another order than they were asked for: by a harness that stood still.
const together = 500 * time.Millisecond

// neighbours are the times of the rows before and after that of an answer that is missing.
func (e *evidence) neighbours(n int) (from, to time.Time) {
	to = time.Now().Add(24 * time.Hour)
	apart := func(i int) bool { return e.served[i-1].Sub(e.served[n-1]).Abs() >= together }
	for i := n - 1; i > 0 && from.IsZero(); i-- {
		if at := e.stored[i]; len(at) > 0 && apart(i) {
			from = at[0]
		}
	}
	for i := n + 1; i <= len(e.served); i++ {
		if at := e.stored[i]; len(at) > 0 && apart(i) {
			return from, at[0]
		}
	}
	return from, to
}

// excuseDamage: what was in a file of the outbox that damage took. When the damage can be seen it has to be told.
func (e *evidence) excuseDamage(missing ticks) (untold string) {
	for n := range missing {
		seen, took := e.took[n]
		switch {
		case took && (!seen || e.told.outbox):
			delete(missing, n)
		case took:
			untold = "; the outbox was damaged and it tells nothing of that"
		}
	}
	return untold
}

// list tells the missing, and when they were served.
func (e *evidence) list(missing ticks) string {
	var parts []string
	for _, n := range slices.Sorted(maps.Keys(missing)) {
		parts = append(parts, fmt.Sprintf("%d at %s", n, e.served[n-1].Format("15:04:05.000")))
	}
	const most = 8
	if len(parts) > most {
		parts = append(parts[:most], fmt.Sprintf("%d more", len(parts)-most))
	}
	return strings.Join(parts, ", ")
}
