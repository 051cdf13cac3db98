package owner

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestOnlyTheNodesOfAReplicaThatComesOrGoesMove(t *testing.T) {
	three, two := []string{"a", "b", "c"}, []string{"a", "c"}
	share := map[string]int{}
	for i := range 3000 {
		node := fmt.Sprintf("node-%d", i)
		before, after := Of(three, node), Of(two, node)
		share[before]++
		if before != "b" && after != before {
			t.Fatalf("%s moved from %s to %s as b went", node, before, after)
		}
		if before == "b" && after == "b" {
			t.Fatalf("%s is still b's", node)
		}
	}
	for _, name := range three {
		if share[name] < 850 || share[name] > 1150 {
			t.Errorf("%s has %d of 3000 nodes", name, share[name])
		}
	}
	if Of(nil, "n") != "" {
		t.Error("a node has an owner where there is no replica")
	}
}

func TestAReplicaActsOnlyOnceSettledAndWithinItsLease(t *testing.T) {
	b, t0 := NewBoard("a", 20*time.Second), time.Unix(1000, 0)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	acts := func(s float64, want bool) {
		t.Helper()
		if got := b.View(at(s)); got.Acting != want || slices.Contains(got.Members, "a") != want {
			t.Errorf("at %v s: %+v; wanted acting %t", s, got, want)
		}
	}
	acts(0, false)
	b.Connected(1, at(0), at(0.1))
	acts(2, false) // it settles
	acts(2.1, true)
	acts(9.9, true)
	acts(10, false) // no beat was acknowledged
	b.Beaten(at(9))
	acts(18.9, true)
	acts(19, false)
	b.Beaten(at(5)) // late
	acts(19, false)
	b.Beaten(at(20))
	acts(21, true)
	b.Disconnected()
	acts(21, false)
}

func TestWhatIsLateOrRepeatedSaysNothingOfAReplica(t *testing.T) {
	t0 := time.Unix(1000, 0)
	say := func(session, beat uint64, state api.ReplicaState) *api.Replica {
		return &api.Replica{Cluster: "c", Replica: "b", Session: session, Beat: beat, State: state}
	}
	for name, c := range map[string]struct {
		heard []*api.Replica
		live  bool
	}{
		"never":                   {nil, false},
		"live":                    {[]*api.Replica{say(7, 1, api.ReplicaLive)}, true},
		"will":                    {[]*api.Replica{say(7, 1, api.ReplicaLive), say(7, 0, api.ReplicaLost)}, false},
		"will of the one before":  {[]*api.Replica{say(8, 1, api.ReplicaLive), say(7, 0, api.ReplicaLost)}, true},
		"beat after its will":     {[]*api.Replica{say(7, 1, api.ReplicaLive), say(7, 0, api.ReplicaLost), say(7, 2, api.ReplicaLive)}, false},
		"session after a will":    {[]*api.Replica{say(7, 0, api.ReplicaLost), say(8, 1, api.ReplicaLive)}, true},
		"leaving":                 {[]*api.Replica{say(7, 1, api.ReplicaLive), say(7, 2, api.ReplicaLeaving)}, false},
		"old session once more":   {[]*api.Replica{say(8, 0, api.ReplicaLost), say(7, 9, api.ReplicaLive)}, false},
		"leaving, then the will":  {[]*api.Replica{say(7, 2, api.ReplicaLeaving), say(7, 0, api.ReplicaLost)}, false},
		"an older beat of it all": {[]*api.Replica{say(7, 5, api.ReplicaLeaving), say(7, 4, api.ReplicaLive)}, false},
	} {
		b := NewBoard("a", 20*time.Second)
		for _, r := range c.heard {
			b.Heard(r, t0)
		}
		if got := slices.Contains(b.View(t0).Members, "b"); got != c.live {
			t.Errorf("%s: live %t; wanted %t", name, got, c.live)
		}
	}
	b := NewBoard("a", 20*time.Second)
	b.Heard(say(7, 1, api.ReplicaLive), t0)
	b.Heard(say(7, 1, api.ReplicaLive), t0.Add(15*time.Second)) // the same beat again is no sign of life
	if got := b.View(t0.Add(20 * time.Second)); len(got.Members) != 0 {
		t.Errorf("members %v after 20 s without a new beat", got.Members)
	}
	if others := b.Others(t0.Add(20 * time.Second)); len(others) != 1 || others[0].State != api.ReplicaLost {
		t.Errorf("shown as %+v; wanted lost", others)
	}
}

func TestAReplicaThatTheBrokerKnowsUnderALaterSessionIsToldSo(t *testing.T) {
	b, now := NewBoard("a", 20*time.Second), time.Unix(1000, 0)
	own := func(session uint64) *api.Replica {
		return &api.Replica{Replica: "a", Session: session, Beat: 1, State: api.ReplicaLive}
	}
	if got := b.Heard(own(9), now); got != 0 {
		t.Errorf("not connected: behind %d", got)
	}
	b.Connected(5, now, now)
	if got := b.Heard(own(5), now); got != 0 {
		t.Errorf("its own echo: behind %d", got)
	}
	if got := b.Heard(own(9), now); got != 9 {
		t.Errorf("behind %d; wanted 9", got)
	}
}

func TestAClaimSupersedesAllThatWereSeen(t *testing.T) {
	seen := []api.Claim{{}, {Term: 7, Owner: "z"}, {Term: 3, Owner: "b"}}
	c := Next("a", seen...)
	for _, s := range seen {
		if !s.Before(c) {
			t.Errorf("%+v does not supersede %+v", c, s)
		}
	}
	x, y := Next("a", seen...), Next("b", seen...)
	if x.Before(y) == y.Before(x) {
		t.Errorf("%+v and %+v, claimed at once, are not ordered", x, y)
	}
}

// world is replicas on a broker that delivers to each in order, after a delay of its own, and a node that keeps the
// greatest claim.
type world struct {
	dice     *rand.Rand
	now      time.Time
	replicas map[string]*replica
	inboxes  map[string][]letter
	node     api.Claim
	obeyed   []api.Claim
	delay    time.Duration // at most, from the broker to a replica
}

type letter struct {
	at time.Time
	r  api.Replica
}

type replica struct {
	board   *Board
	name    string
	session uint64
	beat    uint64
	linked  bool
	paused  time.Time // until then it does nothing, and does not know
	deaf    time.Time // until then its link is dead and it has not noticed: nothing passes, nothing is acknowledged
	beatAt  time.Time
	claim   api.Claim
}

const timeout = 20 * time.Second

func newWorld(seed uint64, delay time.Duration) *world {
	w := &world{dice: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1000, 0), replicas: map[string]*replica{}, inboxes: map[string][]letter{}, delay: delay}
	for _, name := range []string{"a", "b", "c"} {
		w.replicas[name] = &replica{board: NewBoard(name, timeout), name: name}
	}
	return w
}

// publish hands r to everybody who is linked.
func (w *world) publish(r api.Replica) {
	for _, name := range []string{"a", "b", "c"} {
		if w.replicas[name].linked {
			at := w.now.Add(time.Duration(w.dice.Int64N(int64(w.delay) + 1)))
			if box := w.inboxes[name]; len(box) > 0 && box[len(box)-1].at.After(at) {
				at = box[len(box)-1].at
			}
			w.inboxes[name] = append(w.inboxes[name], letter{at, r})
		}
	}
}

func (w *world) say(r *replica, state api.ReplicaState) {
	w.publish(api.Replica{Cluster: "c", Replica: r.name, Session: r.session, Beat: r.beat, State: state})
}

func (w *world) connect(r *replica) {
	r.linked, r.session, r.beat, r.beatAt = true, r.session+1, 1, w.now
	w.inboxes[r.name] = nil
	for _, other := range w.replicas { // retained
		if other.session > 0 && other != r {
			state := api.ReplicaLost
			if other.linked {
				state = api.ReplicaLive
			}
			w.inboxes[r.name] = append(w.inboxes[r.name], letter{w.now, api.Replica{Replica: other.name, Session: other.session, Beat: other.beat, State: state}})
		}
	}
	w.say(r, api.ReplicaLive)
	r.board.Connected(r.session, w.now, w.now)
}

func (w *world) cut(r *replica) {
	r.linked = false
	w.inboxes[r.name] = nil
	w.say(r, api.ReplicaLost) // the broker, for it
	if w.now.After(r.paused) && !w.now.Before(r.deaf) {
		r.board.Disconnected() // a paused one finds out when it goes on
	}
}

// step lets every replica that runs do what is due, and returns who acts for the node over a link that works, and who over one
// that is dead.
func (w *world) step() (owners, vain []string) {
	for _, name := range []string{"a", "b", "c"} {
		r := w.replicas[name]
		if w.now.Before(r.paused) {
			continue
		}
		deaf := w.now.Before(r.deaf)
		if !r.linked && !deaf {
			r.board.Disconnected()
		}
		for !deaf && len(w.inboxes[name]) > 0 && !w.inboxes[name][0].at.After(w.now) {
			l := w.inboxes[name][0]
			w.inboxes[name] = w.inboxes[name][1:]
			r.board.Heard(&l.r, w.now)
		}
		if r.linked && !deaf && w.now.Sub(r.beatAt) >= r.board.Beat() {
			r.beat, r.beatAt = r.beat+1, w.now
			w.say(r, api.ReplicaLive)
			r.board.Beaten(w.now)
		}
		v := r.board.View(w.now)
		if !v.Acting || Of(v.Members, "n") != name {
			r.claim = api.Claim{}
			continue
		}
		if deaf {
			vain = append(vain, name)
			continue
		}
		owners = append(owners, name)
		if r.claim == (api.Claim{}) { // it takes the node over: the broker tells it the claim before
			r.claim = Next(name, w.node)
		}
	}
	return owners, vain
}

// order has r order something of the node, as one does that believes it may.
func (w *world) order(c api.Claim) {
	if c == (api.Claim{}) || c.Before(w.node) {
		return
	}
	w.node = c
	w.obeyed = append(w.obeyed, c)
}

func (w *world) run(t *testing.T, steps int, trouble func()) {
	t.Helper()
	for range steps {
		trouble()
		owners, vain := w.step()
		if len(owners) > 1 {
			t.Fatalf("%s all act for the node at %s", owners, w.now)
		}
		for _, name := range vain {
			if r := w.replicas[name]; w.now.Sub(r.beatAt) >= timeout/2 {
				t.Fatalf("%s acts on %s after its last beat that anybody had", name, w.now.Sub(r.beatAt))
			}
		}
		for _, r := range w.replicas {
			if !w.now.Before(r.deaf) {
				w.order(r.claim) // also one that is paused: what it sent before is on its way
			}
		}
		w.now = w.now.Add(100 * time.Millisecond)
	}
}

// TestAtMostOneReplicaActsForANodeAtATime cuts, restarts and pauses replicas at random, and lets their links die unnoticed, on a
// broker that is quicker than Settle and that gives up a silent link after three quarters of the timeout. Whatever happens, no two that
// reach the broker act for the node at a moment, one that does not gives up by itself, the node never obeys a claim below
// one that it obeyed before, no two replicas ever have the same claim, and in the end, when all is quiet, one owns it.
func TestAtMostOneReplicaActsForANodeAtATime(t *testing.T) {
	for seed := range uint64(300) {
		w := newWorld(seed, time.Second)
		w.run(t, 3000, func() {
			r := w.replicas[string("abc"[w.dice.IntN(3)])]
			busy := w.now.Before(r.paused) || w.now.Before(r.deaf)
			switch roll := w.dice.IntN(400); {
			case roll < 4 && !r.linked && !busy:
				w.connect(r)
			case roll == 4 && r.linked && !w.now.Before(r.deaf):
				w.cut(r)
			case roll == 5 && r.linked && !busy:
				r.deaf = w.now.Add(time.Duration(w.dice.Int64N(int64(90 * time.Second))))
			case roll == 6 && !busy:
				r.paused = w.now.Add(time.Duration(w.dice.Int64N(int64(40 * time.Second))))
			case r.linked && busy && w.now.Sub(r.beatAt) > timeout*3/4:
				w.cut(r) // its keepalive is over
			}
		})
		for _, r := range w.replicas {
			r.paused, r.deaf = w.now, w.now
			if !r.linked {
				w.connect(r)
			}
		}
		w.run(t, 400, func() {})
		if owners, _ := w.step(); len(owners) != 1 || owners[0] != Of([]string{"a", "b", "c"}, "n") {
			t.Fatalf("seed %d: owners %v after 40 quiet seconds", seed, owners)
		}
		w.audit(t, seed)
	}
}

// audit looks at what the node obeyed.
func (w *world) audit(t *testing.T, seed uint64) {
	t.Helper()
	if len(w.obeyed) == 0 {
		t.Fatalf("seed %d: the node obeyed nobody", seed)
	}
	terms := map[uint64]string{}
	for i, c := range w.obeyed {
		if i > 0 && c.Before(w.obeyed[i-1]) {
			t.Fatalf("seed %d: the node obeyed %+v after %+v", seed, c, w.obeyed[i-1])
		}
		if owner, taken := terms[c.Term]; taken && owner != c.Owner {
			t.Fatalf("seed %d: term %d is of %s and of %s", seed, c.Term, owner, c.Owner)
		}
		terms[c.Term] = c.Owner
	}
}
