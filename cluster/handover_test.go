package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/kube/vnode"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/mqtt"
)

// replicaRig is a cluster agent that has just taken over nodes, and subscribed to them.
func replicaRig(t *testing.T, skip *time.Duration, nodes ...string) (*rig, *share) {
	t.Helper()
	r := newRig(t, map[string]string{"replica.timeout": "20s"})
	begun := agent.SinceBoot()
	r.uptime = func() time.Duration { return begun + *skip } // a machine that is busy takes no time
	s := newShare(r.Agent)
	s.board.Connected(1, s.now(), s.now())
	owners := map[string]*api.Owner{}
	for _, node := range nodes {
		r.enrol(node)
		owners[node] = &api.Owner{Replica: "a", Here: true}
		s.held[node] = &holding{since: s.now()}
	}
	if err := r.registry.SetOwners(owners); err != nil {
		t.Fatal(err)
	}
	return r, s
}

// kept has the broker repeat a desired document that another replica published.
func kept(t *testing.T, r *rig, s *share, node string, generation uint64, config string) {
	t.Helper()
	d := &api.Desired{Node: node, Generation: generation, Epoch: 1, Issued: 1, Expires: 2, Config: map[string]any{"a": config}}
	d.Hash, _, _ = registry.HashDesired(d)
	signed, err := mqtt.Seal(r.authority.OrderSigner(), mqtt.KindDesired, d)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.onDesired(node, mqtt.Inbound{Topic: r.topic(mqtt.KindDesired, node, ""), Payload: payload, Retained: true}); err != nil {
		t.Fatal(err)
	}
}

func TestADeviceIsHereForItsPodsWhenItIsKnownWhatItWasTold(t *testing.T) {
	var skip time.Duration
	r, s := replicaRig(t, &skip, "n1", "n2")
	stands := func(node string, want vnode.Standing) {
		t.Helper()
		if _, got := r.Device(node); got != want {
			t.Errorf("%s stands %v; wanted %v", node, got, want)
		}
	}
	stands("n1", vnode.Elsewhere)
	if err := r.SetWorkloads("n1", func([]api.Workload, int) []api.Workload { return nil }); err == nil {
		t.Error("its workloads are changed before it is known what they are")
	}
	if s.giveUp(); s.held["n1"].told {
		t.Error("it is not waited for")
	}
	skip = s.board.Settle() * 3 / 4
	kept(t, r, s, "n1", 7, "b")
	stands("n1", vnode.Here)
	stands("n2", vnode.Elsewhere)
	skip *= 2 // more than Settle since n2 was subscribed to, and less since documents came
	s.giveUp()
	stands("n2", vnode.Elsewhere)
	skip += s.board.Settle()
	s.giveUp()
	stands("n2", vnode.Elsewhere) // the broker is asked once more
	s.asked(s.unclear())
	skip += s.board.Settle() * 3 / 4
	s.giveUp()
	stands("n2", vnode.Elsewhere)
	skip += s.board.Settle() / 2
	s.giveUp()
	stands("n2", vnode.Here)
	if _, list, err := r.Workloads("n2"); err != nil || list <= 0 {
		t.Errorf("room %d, %v", list, err)
	}
}

// TestWhatABrokerDidNotTellOfANodeIsAskedForAgain has a broker lose what it keeps of n1, tell all of n2, and that n3 is away.
func TestWhatABrokerDidNotTellOfANodeIsAskedForAgain(t *testing.T) {
	var skip time.Duration
	r, s := replicaRig(t, &skip, "n1", "n3")
	r.online("n2", r.enrol("n2"), 5, false)
	s.held["n2"] = &holding{since: s.now()}
	for node, h := range s.held {
		h.told, h.stated = true, node != "n1"
	}
	unclear := func(what string, want ...string) {
		t.Helper()
		got := s.unclear()
		if s.asked(got); !slices.Equal(got, want) {
			t.Errorf("%s: %v are asked for again; wanted %v", what, got, want)
		}
	}
	unclear("at once")
	skip = s.board.Settle() + time.Millisecond
	unclear("after a while", "n1", "n3") // n3 may have come back unheard
	unclear("at once after that")
	skip += s.board.Settle() + time.Millisecond
	unclear("after the same while")
	skip += s.board.Settle() + time.Millisecond
	unclear("after twice as long", "n1")
	s.held["n1"].stated = true
	skip += time.Hour
	unclear("once its state was heard")
	s.held["n1"].asked, s.held["n1"].stated = 100, false
	skip += time.Hour
	unclear("an hour after it was asked for a hundred times")
	want := []string{r.topic(mqtt.KindDesired, "n1", ""), r.topic(mqtt.KindBirth, "n1", ""), r.topic(mqtt.KindState, "n1", "")}
	got := s.keptOf([]string{"n1"})
	for _, topic := range want {
		if !slices.Contains(got, topic) {
			t.Errorf("asked for are %v; wanted %s among them", got, topic)
		}
	}
}

func TestANodeIsNotYetThereWhileNodesAreNotDealtOut(t *testing.T) {
	r := newRig(t, nil)
	r.enrol("n1")
	if _, got := r.Device("n1"); got != vnode.Here {
		t.Errorf("of the only cluster agent: %v", got)
	}
	r.share = newShare(r.Agent)
	defer func() { r.share = nil }()
	if _, got := r.Device("n1"); got != vnode.Elsewhere {
		t.Errorf("of one among several: %v", got)
	}
}

func TestADocumentThatGotANumberOfItsOwnIsSentAnew(t *testing.T) {
	var skip time.Duration
	r, s := replicaRig(t, &skip, "n1")
	kept(t, r, s, "n1", 7, "theirs")
	s.held["n1"].met = 5
	kept(t, r, s, "n1", 7, "theirs")
	if s.held["n1"].met != 5 {
		t.Error("the same document again has the node greeted again")
	}
	kept(t, r, s, "n1", 7, "others")
	if n, _ := r.registry.Get("n1"); s.held["n1"].met != 0 || n.Desired.Generation != 8 {
		t.Errorf("met in session %d, generation %d; wanted it greeted with generation 8", s.held["n1"].met, n.Desired.Generation)
	}
}

// TestANodeThatHasAnotherContentOfTheSameGenerationIsToldAnew has two cluster agents have made one generation, each without the other.
func TestANodeThatHasAnotherContentOfTheSameGenerationIsToldAnew(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 5, false)
	now, _ := r.registry.Get("n1")
	seen := len(d.messages(r.topic(mqtt.KindDesired, "n1", "")))
	b := *now.Birth
	b.Desired = api.Revision{Generation: now.Desired.Generation, Hash: "of another content"}
	if err := r.greet(t.Context(), "n1", &b); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is told", func() bool { return len(d.messages(r.topic(mqtt.KindDesired, "n1", ""))) > seen })
	all := d.messages(r.topic(mqtt.KindDesired, "n1", ""))
	var told api.Desired
	if err := r.codec.Open((&share{agent: r.Agent}).orderKeys(), mqtt.KindDesired, all[len(all)-1].Payload(), &told); err != nil {
		t.Fatal(err)
	}
	if told.Generation != now.Desired.Generation+1 || told.Hash != now.Desired.Hash {
		t.Errorf("told generation %d; it has %d with another content, and takes only greater ones", told.Generation, now.Desired.Generation)
	}
}

// TestANodeThatIsThereDoesNotWaitForThoseThatAreAway has a broker that never had a document of n1, repeat those of a thousand nodes that
// are off.
func TestANodeThatIsThereDoesNotWaitForThoseThatAreAway(t *testing.T) {
	var skip time.Duration
	r, s := replicaRig(t, &skip)
	for i := range 1000 {
		name := fmt.Sprintf("a%04d", i)
		if err := r.registry.Enrolled(registry.Enrolment{Node: name, KeySHA256: name}); err != nil {
			t.Fatal(err)
		}
		s.held[name] = &holding{since: s.now(), told: true, stated: true}
	}
	r.online("n1", r.enrol("n1"), 5, false)
	s.held["n1"] = &holding{since: s.now()}
	for began := skip; !s.held["n1"].told; skip += lookEvery {
		if waited := skip - began; waited > 3*s.board.Settle() {
			t.Fatalf("n1 is not greeted after %s, for %d nodes that are away", waited, len(s.held)-1)
		}
		s.giveUp()
		for _, node := range s.unclear() {
			s.asked([]string{node})
			if h := s.held[node]; h.told {
				kept(t, r, s, node, 7, "a")
			}
		}
	}
}
