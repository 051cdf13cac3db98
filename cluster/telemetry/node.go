package telemetry

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// Reason says why a sample of a good batch was not stored. None of them is cured by sending it again.
type Reason string

// The reasons.
const (
	ReasonDuplicate   Reason = "duplicate"    // another value is stored for this instant
	ReasonTooOld      Reason = "too_old"      // older than the out-of-order window
	ReasonFuture      Reason = "future"       // further ahead of our clock than may be
	ReasonSeriesLimit Reason = "series_limit" // the node uses too many series
	ReasonOther       Reason = "other"
)

// reasons lists them, so that counts fit an array.
var reasons = [...]Reason{ReasonDuplicate, ReasonTooOld, ReasonFuture, ReasonSeriesLimit, ReasonOther}

const (
	rejectDuplicate = iota
	rejectTooOld
	rejectFuture
	rejectSeriesLimit
	rejectOther
)

type rejections [len(reasons)]uint64

func (r *rejections) sum() (n uint64) {
	for _, v := range r {
		n += v
	}
	return n
}

// generation is how long a series is remembered without being used: one to two of these. Well above any reporting
// interval, well below what a node that invents names could fill memory in.
const generation = time.Hour

// entry is a series as a node names it. Its text is parsed once; what follows lset belongs to the ingest goroutine.
type entry struct {
	lset   labels.Labels
	ref    storage.SeriesRef // 0 before the first sample, and after the TSDB was opened anew
	opened uint64            // the opening that ref belongs to
	commit uint64            // the commit that last touched it
	at     int64             // and the sample then, to see two values for one instant within a commit
	value  float64
	newest int64 // time of the newest sample since opened
}

// nodeSeries caches the series of one node. It holds two generations: what was used since the last turn, and what was
// used before it.
type nodeSeries struct {
	mu         sync.Mutex
	young, old map[string]*entry
	turn       time.Time
	rejected   rejections
	logged     time.Time
}

// lookup fills out with the entries of names, nil where the node may not use another series. Names that cannot be
// parsed make the whole call fail.
func (n *nodeSeries) lookup(names []string, out []*entry, limit int, parse func(string) (labels.Labels, error)) ([]*entry, error) {
	for _, name := range names {
		e, ok := n.young[name]
		if !ok {
			if e, ok = n.old[name]; ok {
				delete(n.old, name)
				n.young[strings.Clone(name)] = e
			}
		}
		if !ok {
			lset, err := parse(name)
			if err != nil {
				return nil, err
			}
			if len(n.young)+len(n.old) < limit {
				e = &entry{lset: lset}
				n.young[strings.Clone(name)] = e // name may be a part of a whole message
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// age turns the generations when it is time.
func (n *nodeSeries) age(now time.Time) {
	if now.Sub(n.turn) < generation && now.After(n.turn.Add(-generation)) {
		return
	}
	n.turn = now
	n.old, n.young = n.young, make(map[string]*entry, len(n.young))
}

// nodeTable holds the caches of the nodes that reported lately.
type nodeTable struct {
	mu    sync.RWMutex
	nodes map[string]*nodeSeries
	swept time.Time
}

func newNodeTable() *nodeTable { return &nodeTable{nodes: map[string]*nodeSeries{}} }

// get returns the cache of a node, creating it. Now and then it forgets nodes that have been silent.
func (t *nodeTable) get(node string, now time.Time) *nodeSeries {
	t.mu.RLock()
	n := t.nodes[node]
	t.mu.RUnlock()
	if n != nil {
		return n
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n = t.nodes[node]; n != nil {
		return n
	}
	if now.Sub(t.swept) > generation {
		t.swept = now
		t.sweep(now)
	}
	n = &nodeSeries{young: map[string]*entry{}, old: map[string]*entry{}, turn: now}
	t.nodes[node] = n
	return n
}

// sweep drops nodes that did not report for two generations.
func (t *nodeTable) sweep(now time.Time) {
	for name, n := range t.nodes {
		n.mu.Lock()
		if now.Sub(n.turn) > 2*generation {
			delete(t.nodes, name)
		}
		n.mu.Unlock()
	}
}

func (t *nodeTable) drop(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.nodes, node)
}

// rejected returns what was not stored of a node's samples since it was first heard of, or after a long silence.
func (t *nodeTable) rejected(node string) map[Reason]uint64 {
	t.mu.RLock()
	n := t.nodes[node]
	t.mu.RUnlock()
	out := map[Reason]uint64{}
	if n == nil {
		return out
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, v := range n.rejected {
		if v != 0 {
			out[reasons[i]] = v
		}
	}
	return out
}
