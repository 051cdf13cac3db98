package command

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The simulation: one journal on a real database, three nodes that keep their word as edge nodes do, a wire that loses,
// doubles and reorders, and crashes of both sides. Time is simulated; every random choice comes from the seed.

const (
	simGrace     = 10 * time.Second
	simNodeGrace = 5 * time.Second
	simTick      = 250 * time.Millisecond
)

type message struct {
	at     time.Time
	node   string
	epoch  uint64 // of the session it was sent in
	cmd    *api.Command
	status *api.Status
	acks   []string
}

// simCommand is what a node keeps of a command in its own journal, which survives its crashes.
type simCommand struct {
	cmd     api.Command
	phase   api.Phase
	doneAt  time.Time
	result  api.Phase
	acked   bool
	effects int
}

type simNode struct {
	id      string
	epoch   uint64
	up      bool
	journal map[string]*simCommand
	resend  time.Time
}

type sim struct {
	t         *testing.T
	rng       *rand.Rand
	clock     *clock
	dir       string
	files     int
	ticks     int
	journal   *Journal
	nodes     map[string]*simNode
	order     []string // of nodes
	wire      []message
	quiet     bool // the end: nothing goes wrong any more
	submitted []string
	verdicts  map[string]api.Phase // the first final phase that anybody saw
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 7)), clock: newClock(), dir: t.TempDir(),
		nodes: map[string]*simNode{}, verdicts: map[string]api.Phase{}}
	for i := range 3 {
		n := &simNode{id: fmt.Sprintf("n%d", i), journal: map[string]*simCommand{}}
		s.nodes[n.id] = n
		s.order = append(s.order, n.id)
	}
	s.start(filepath.Join(s.dir, "db0"))
	return s
}

func (s *sim) start(path string) {
	s.journal = newJournal(s.t, Config{DB: openDB(s.t, path, false), Deliverer: s, Now: s.clock.Now, Grace: simGrace})
}

func (s *sim) chance(percent int) bool { return !s.quiet && s.rng.IntN(100) < percent }

// Deliver puts a command on the wire. Nothing may be sent at or after its deadline.
func (s *sim) Deliver(_ context.Context, node string, epoch uint64, cmd *api.Command) error {
	if cmd.Deadline <= api.At(s.clock.Now()) || cmd.Epoch != epoch {
		s.t.Errorf("command %s sent at %d with deadline %d, epoch %d in session %d",
			cmd.ID, api.At(s.clock.Now()), cmd.Deadline, cmd.Epoch, epoch)
	}
	c := *cmd
	s.send(message{node: node, epoch: epoch, cmd: &c})
	if s.chance(10) {
		return fmt.Errorf("broker hiccup")
	}
	return nil
}

func (s *sim) send(m message) {
	for copies := 1; copies > 0; copies-- {
		if s.chance(10) {
			continue // lost
		}
		if s.chance(10) && copies < 3 {
			copies += 2 // doubled
		}
		m.at = s.clock.Now()
		if s.chance(40) {
			m.at = m.at.Add(time.Duration(s.rng.IntN(8000)) * time.Millisecond) // overtaken by later ones
		}
		s.wire = append(s.wire, m)
	}
}

// crashCluster abandons the journal without closing it, as a kill does, and starts another on what is on disk.
func (s *sim) crashCluster() {
	old := s.journal.cfg.DB
	s.files++
	path := filepath.Join(s.dir, fmt.Sprintf("db%d", s.files))
	in, err := os.Open(old.Path())
	if err != nil {
		s.t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		s.t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.start(path)
	old.Close() // only to free the file; the journal on it is not used again
	for _, id := range s.order {
		if n := s.nodes[id]; n.up {
			s.connect(n)
		}
	}
}

func (s *sim) connect(n *simNode) {
	n.epoch++
	n.up = true
	var open []string
	for id, c := range n.journal {
		if !c.acked {
			open = append(open, id)
		}
	}
	s.journal.OnNodeUp(n.id, n.epoch, open)
	n.resend = s.clock.Now()
}

func (s *sim) disconnect(n *simNode) {
	n.up = false
	s.journal.OnNodeDown(n.id, n.epoch)
}

func (s *sim) submit() {
	node := s.order[s.rng.IntN(len(s.order))]
	rec, err := s.journal.Submit(s.t.Context(), Order{Node: node, Verb: "do", By: "sim",
		Deadline: s.clock.Now().Add(time.Duration(1+s.rng.IntN(40_000)) * time.Millisecond)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.submitted = append(s.submitted, rec.ID)
}

// tell is a node reporting where a command stands.
func (s *sim) tell(n *simNode, c *simCommand) {
	if n.up {
		s.send(message{node: n.id, epoch: n.epoch, status: &api.Status{ID: c.cmd.ID, Phase: c.phase, Epoch: n.epoch,
			At: api.At(s.clock.Now())}})
	}
}

// receive is a node getting a command: late ones are refused, known ones answered with their status.
func (s *sim) receive(n *simNode, cmd *api.Command) {
	now := s.clock.Now()
	c := n.journal[cmd.ID]
	if c == nil {
		c = &simCommand{cmd: *cmd, phase: api.PhaseAccepted}
		n.journal[cmd.ID] = c
		switch {
		case cmd.Deadline <= api.At(now):
			c.phase = api.PhaseExpired
		case cmd.Verb == verbCancel:
			c.phase = api.PhaseSucceeded
			id, _ := cmd.Args[argCancel].(string)
			if target := n.journal[id]; target != nil && !target.phase.Final() {
				target.phase = api.PhaseCancelled
				s.tell(n, target)
			} else {
				c.phase = api.PhaseFailed
			}
		}
		c.doneAt = now.Add(time.Duration(s.rng.IntN(20_000)) * time.Millisecond)
		c.result = []api.Phase{api.PhaseSucceeded, api.PhaseSucceeded, api.PhaseFailed, api.PhaseRejected}[s.rng.IntN(4)]
	}
	s.tell(n, c)
}

// work lets a node's commands go on.
func (s *sim) work(n *simNode) {
	now := s.clock.Now()
	again := now.After(n.resend)
	if again {
		n.resend = now.Add(3 * time.Second)
	}
	for _, id := range s.submittedAndCancels(n) {
		c := n.journal[id]
		before := c.phase
		switch {
		case c.phase.Final():
		case now.After(c.cmd.Deadline.Time().Add(simNodeGrace)):
			c.phase = api.PhaseTimedOut
		case c.phase == api.PhaseAccepted && c.result == api.PhaseRejected:
			c.phase = api.PhaseRejected
		case c.phase == api.PhaseAccepted:
			if c.cmd.Deadline <= api.At(now) {
				break // it is not begun any more; closed above
			}
			c.phase = api.PhaseRunning
			c.effects++
		case c.phase == api.PhaseInterrupted:
			c.phase = api.PhaseFailed // by its verb's policy: never twice
		case now.After(c.doneAt):
			c.phase = c.result
		}
		if c.phase != before || again && c.phase.Final() && !c.acked {
			s.tell(n, c)
		}
	}
}

// submittedAndCancels lists what n knows in an order that depends on the seed alone.
func (s *sim) submittedAndCancels(n *simNode) []string {
	var ids []string
	for _, id := range s.submitted {
		if n.journal[id] != nil {
			ids = append(ids, id)
		}
	}
	for _, id := range s.submitted {
		for known, c := range n.journal {
			if c.cmd.Verb == verbCancel && c.cmd.Args[argCancel] == id {
				ids = append(ids, known)
			}
		}
	}
	return ids
}

// crashNode loses what is not in the node's journal: only the knowledge that something ran on.
func (s *sim) crashNode(n *simNode) {
	s.disconnect(n)
	for _, c := range n.journal {
		if c.phase == api.PhaseRunning {
			c.phase = api.PhaseInterrupted
		}
	}
}

// carry hands over what is due on the wire. A command of an older session is not accepted by a node.
func (s *sim) carry() {
	now := s.clock.Now()
	pending := s.wire
	s.wire = nil
	for _, m := range pending {
		n := s.nodes[m.node]
		switch {
		case m.at.After(now):
			s.wire = append(s.wire, m)
		case m.status != nil:
			if err := s.journal.OnStatus(m.node, m.status); err != nil {
				s.t.Fatal(err)
			}
		case !n.up:
		case m.cmd != nil && m.epoch == n.epoch:
			s.receive(n, m.cmd)
		case m.acks != nil:
			for _, id := range m.acks {
				if c := n.journal[id]; c != nil && c.phase.Final() {
					c.acked = true
				}
			}
		}
	}
	for _, id := range s.order {
		if n := s.nodes[id]; n.up {
			if acks := s.journal.Acks(id); len(acks) > 0 {
				s.send(message{node: id, epoch: n.epoch, acks: acks})
			}
		}
	}
}

// watch checks that a final phase, once seen, never changes.
func (s *sim) watch() {
	for _, id := range s.submitted {
		rec := mustGet(s.t, s.journal, id)
		if seen, ok := s.verdicts[id]; ok && seen != rec.Phase {
			s.t.Fatalf("command %s was %s and is now %s", id, seen, rec.Phase)
		}
		if rec.Final != rec.Phase.Final() {
			s.t.Fatalf("command %s is %s, final %v", id, rec.Phase, rec.Final)
		}
		if rec.Final {
			s.verdicts[id] = rec.Phase
		}
	}
}

func (s *sim) tick() {
	s.clock.add(simTick)
	if s.chance(25) && len(s.submitted) < 40 {
		s.submit()
	}
	if s.chance(3) && len(s.submitted) > 0 {
		id := s.submitted[s.rng.IntN(len(s.submitted))]
		_, _ = s.journal.Cancel(s.t.Context(), id, "sim") // may have ended: that is an answer too
	}
	for _, id := range s.order {
		n := s.nodes[id]
		switch {
		case n.up && s.chance(3):
			s.disconnect(n)
		case n.up && s.chance(2):
			s.crashNode(n)
		case !n.up && (s.quiet || s.chance(8)):
			s.connect(n)
		}
		s.work(n)
	}
	if s.chance(2) {
		s.crashCluster()
	}
	s.carry()
	s.journal.turn(s.t.Context())
	if s.ticks++; s.ticks%4 == 0 {
		s.watch()
	}
}

func TestEveryCommandEndsOnceUnderLossAndCrashes(t *testing.T) {
	seeds := 25
	if testing.Short() {
		seeds = 5
	}
	var lates, ends int
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, uint64(seed))
			for range 240 {
				s.tick()
			}
			s.quiet = true
			for range int((40*time.Second + simGrace + 15*time.Second) / simTick) {
				s.tick()
			}
			l, e := s.judge()
			lates, ends = lates+l, ends+e
		})
	}
	t.Logf("%d commands, of which %d ended on the node after the close", ends, lates)
	if lates == 0 {
		t.Error("no node reported after the close: the simulation does not reach what it is for")
	}
}

func (s *sim) judge() (lates, ends int) {
	for _, id := range s.submitted {
		rec := mustGet(s.t, s.journal, id)
		if !rec.Final {
			s.t.Errorf("command %s is still %s", id, rec.Phase)
		}
		said := map[api.Phase]bool{}
		toldLate := ""
		for _, h := range rec.History {
			if h.Phase.Final() {
				said[h.Phase] = true
			}
			if what, ok := strings.CutPrefix(h.Reason, "late: "); ok && h.Side == sideNode {
				toldLate = what
			}
		}
		if len(said) != 1 || !said[rec.Phase] {
			s.t.Errorf("command %s is %s, its history knows the ends %v", id, rec.Phase, said)
		}
		ends++
		c := s.nodes[rec.Node].journal[id]
		if c == nil {
			if rec.Phase != api.PhaseExpired && rec.Phase != api.PhaseCancelled {
				s.t.Errorf("command %s never reached its node and is %s", id, rec.Phase)
			}
			continue
		}
		if !c.phase.Final() || !c.acked {
			s.t.Errorf("node %s still holds command %s: %s, acknowledged %v", rec.Node, id, c.phase, c.acked)
		}
		if c.effects > 1 {
			s.t.Errorf("command %s had its effect %d times", id, c.effects)
		}
		if c.phase != rec.Phase {
			lates++
			if toldLate != string(c.phase) {
				s.t.Errorf("command %s ended as %s on the node; its record says %s, late %q", id, c.phase, rec.Phase, toldLate)
			}
		}
		if c.effects > 0 && rec.Phase == api.PhaseExpired && toldLate == "" {
			s.t.Errorf("command %s had an effect, is expired, and nothing tells", id)
		}
	}
	if st := s.journal.Stats(); st.Open != 0 || st.Conflicts != 0 {
		s.t.Errorf("%d open, %d conflicts at the end", st.Open, st.Conflicts)
	}
	return lates, ends
}

// TestEntryHoldsItsInvariantsForEveryShortStory tries every sequence of up to five statuses, with a close before, in
// between, after, or not at all.
func TestEntryHoldsItsInvariantsForEveryShortStory(t *testing.T) {
	phases := []api.Phase{api.PhaseAccepted, api.PhaseRunning, api.PhaseInterrupted, api.PhaseSucceeded, api.PhaseFailed,
		api.PhaseTimedOut, api.PhaseExpired, api.PhaseQueued}
	stories := 0
	var tell func(e entry, length int, closed bool)
	tell = func(e entry, length int, closed bool) {
		stories++
		finals := map[api.Phase]bool{}
		for _, h := range e.History {
			if h.Phase.Final() {
				finals[h.Phase] = true
			}
		}
		if len(finals) > 1 || e.Final != e.Phase.Final() || e.Final != (len(finals) == 1) || e.Final != (e.Closed != 0) {
			t.Fatalf("phase %s, final %v, closed %d, ends in history %v", e.Phase, e.Final, e.Closed, finals)
		}
		if e.Late != "" && (!closed || e.Late == e.Phase) {
			t.Fatalf("late %q on phase %s, closed %v", e.Late, e.Phase, closed)
		}
		if length == 5 {
			return
		}
		for i, p := range phases {
			next, before := e, e.Phase
			what := next.take(&api.Status{ID: "x", Phase: p, Epoch: 1, At: api.Millis(100 + length*10 + i)}, api.Millis(1000+length))
			if e.Final && next.Phase != before || what == advanced != (next.Phase != before) {
				t.Fatalf("%s took %s: %s, effect %d", before, p, next.Phase, what)
			}
			twice := next
			if again := twice.take(&api.Status{ID: "x", Phase: p, Epoch: 1, At: api.Millis(100 + length*10 + i)}, 2000); again.writes() {
				t.Fatalf("%s took %s twice with effect %d", before, p, again)
			}
			tell(next, length+1, closed)
		}
		if !e.Final {
			e.expire(500, time.Second)
			tell(e, length+1, true)
		}
	}
	e := newEntry(&Order{ID: "x", Node: "n"}, 1)
	tell(e, 0, false)
	if stories < 20_000 {
		t.Fatalf("only %d stories", stories)
	}
}
