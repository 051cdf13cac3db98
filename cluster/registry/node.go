package registry

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// row is what is stored of a node apart from its larger documents. Maps in it are replaced, never changed.
type row struct {
	ID          string            `json:"id"`
	KeySHA256   string            `json:"keySha256"`
	Certificate api.Certificate   `json:"certificate"`
	Enrolled    api.Millis        `json:"enrolled"`
	TokenLabels map[string]string `json:"tokenLabels,omitempty"`
	UserLabels  map[string]string `json:"userLabels,omitempty"`
	Epoch       uint64            `json:"epoch,omitempty"`
	State       *api.State        `json:"state,omitempty"`
	StateAt     api.Millis        `json:"stateAt,omitempty"`
	Restarts    uint64            `json:"restarts"`
	Reboots     uint64            `json:"reboots"`
	Standing    Standing          `json:"standing"`
}

// node is a node in memory, guarded by Registry.mu except seen.
type node struct {
	row      row
	facts    Facts
	birth    *api.Birth    // replaced, never changed
	reported *api.Reported // replaced, never changed
	desired  api.Revision
	want     *api.AgentWant    // of the desired document; replaced, never changed
	labels   map[string]string // merged
	born     bool              // a birth came in this run
	lives    []life            // those before the current one, the newest last
	owner    *api.Owner        // replaced, never changed; nil where there is one cluster agent
	unheard  bool              // taken over, and what its former owner told it is not known yet
	twinAt   time.Time         // when it was last told that two devices are at work
	flap     damper
	untold   []api.EventRecord // to be stored with the next write
	removed  bool

	seen        atomic.Int64 // milliseconds; 0: never
	measured    atomic.Int64 // when the last batch came; 0: none in this run
	seenFlushed int64

	version, durable    uint64 // of row, birth and reported together
	birthAt, reportedAt uint64 // the version at which they last changed
}

// maxUntold bounds the events that wait for a disk that refuses.
const maxUntold = 16

// touch marks n changed.
func (n *node) touch() { n.version++ }

// tell has an event stored with the next write.
func (r *Registry) tell(n *node, e api.EventRecord) {
	if len(n.untold) >= maxUntold {
		r.stats.EventsLost++
		return
	}
	e.Node, e.At = n.row.ID, api.At(r.cfg.Now())
	if e.Class == "" {
		e.Class = api.ClassEvent
	}
	n.untold = append(n.untold, e)
	n.touch()
}

// record builds the public form of n. Caller holds mu.
func (r *Registry) record(n *node) api.Node {
	rec := api.Node{
		ID: n.row.ID, Cluster: r.cfg.Cluster,
		Presence: n.row.Standing.Presence, Reason: n.row.Standing.Reason, Since: n.row.Standing.Since,
		LastSeen: api.Millis(n.seen.Load()), Enrolled: n.row.Enrolled, Epoch: n.facts.Epoch,
		Restarts: n.row.Restarts, Reboots: n.row.Reboots, Labels: n.labels,
		KeySHA256: n.row.KeySHA256, Certificate: n.row.Certificate,
		Birth: n.birth, Reported: n.reported, Desired: n.desired, Wanted: n.want, Owner: n.owner,
	}
	switch {
	case n.facts.State != nil && (n.birth == nil || n.facts.State.Epoch >= n.birth.Epoch):
		rec.Boot = n.facts.State.Boot
	case n.birth != nil:
		rec.Boot = n.birth.Boot
	}
	return rec
}

// relabel merges the labels: what a person set goes before the token's, and both before what the node says itself.
func (n *node) relabel() {
	merged := make(map[string]string)
	if n.birth != nil {
		maps.Copy(merged, n.birth.Labels)
		maps.DeleteFunc(merged, func(key, _ string) bool { return !api.OwnLabel(key) }) // of a birth that an older version took
	}
	maps.Copy(merged, n.row.TokenLabels)
	maps.Copy(merged, n.row.UserLabels)
	n.labels = merged
}

// decide concludes the presence of n anew, tells of a change and plans the next look. Caller holds mu.
func (r *Registry) decide(n *node, now time.Time) {
	if !n.facts.LastSeen.IsZero() { // what Seen noted since
		n.facts.LastSeen = latest(n.facts.LastSeen, time.UnixMilli(n.seen.Load()))
	}
	was := n.row.Standing
	is, next := r.windows.Decide(&n.facts, was, r.selfNow(now), now)
	n.row.Standing = is
	if is.Presence != was.Presence || is.Reason != was.Reason {
		n.touch()
		r.tellPresence(n, was, now)
		r.publish(n)
	}
	if muted, over := n.flap.settle(now); over {
		r.tell(n, steady(muted))
	}
	next = earliest(next, n.flap.ends())
	if next.IsZero() {
		r.plan.Remove(n.row.ID)
		return
	}
	r.plan.Set(n.row.ID, next)
	if first, _ := r.plan.Next(); first.Equal(next) {
		r.poke()
	}
}

// tellPresence makes the event of a new presence, unless nobody should be bothered.
func (r *Registry) tellPresence(n *node, was Standing, now time.Time) {
	e, worth := presenceEvent(was, n.row.Standing)
	if !worth {
		return
	}
	switch n.flap.change(now) {
	case tellIt:
		r.tell(n, e)
	case tellFlapping:
		r.tell(n, flapping())
	case tellNothing:
		r.stats.EventsDamped++
	}
	r.cfg.Log.Debug("presence changed", agent.KeyNode, n.row.ID, agent.KeyState, string(n.row.Standing.Presence),
		agent.KeyReason, n.row.Standing.Reason)
}

// publish tells watchers of n. Caller holds mu, so that a list and a watch taken under it fit together.
func (r *Registry) publish(n *node) { r.nodesIn.Publish(r.record(n), n.removed) }

// selfNow is self with the attended time of now.
func (r *Registry) selfNow(now time.Time) Self {
	self := r.self
	if self.Broker {
		self.Attended += max(now.Sub(self.BrokerAt), 0)
	}
	return self
}
