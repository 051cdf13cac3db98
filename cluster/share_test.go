package cluster

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// TestALeaseIsOverAfterTheMachineSlept has the boot clock go on, and with it the time of whoever is awake.
func TestALeaseIsOverAfterTheMachineSlept(t *testing.T) {
	r := newRig(t, map[string]string{"replica.timeout": "20s"})
	begun, slept := agent.SinceBoot(), time.Duration(0)
	r.uptime = func() time.Duration { return begun + slept }
	s := newShare(r.Agent)
	s.held["n1"] = &holding{met: 1}
	s.board.Connected(1, s.now(), s.now())
	slept += s.board.Settle()
	if !s.holds("n1") {
		t.Fatal("the replica does not act after it has settled")
	}
	slept += s.board.Lease()
	if s.holds("n1") {
		t.Error("the replica acts on a lease that ended while the machine slept")
	}
	if c, err := s.claim("n1"); err == nil {
		t.Errorf("it signs an order with claim %v", c)
	}
}

// TestAReplicaStampsByTheClusterAgentsTime has the machine's clock jump a day, which is not believed at once.
func TestAReplicaStampsByTheClusterAgentsTime(t *testing.T) {
	r := newRig(t, nil)
	s := newShare(r.Agent)
	s.name = "a"
	r.off.Store(int64(24 * time.Hour))
	if _, err := s.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := s.word(api.ReplicaLive)
	if err != nil {
		t.Fatal(err)
	}
	var told api.Replica
	if err := r.codec.Open(s.orderKeys(), mqtt.KindReplica, m.Payload, &told); err != nil {
		t.Fatal(err)
	}
	for what, at := range map[string]time.Time{"at": told.At.Time(), "session": time.UnixMilli(int64(told.Session))} {
		if off := at.Sub(r.clock.Now()).Abs(); off > time.Hour {
			t.Errorf("%s is %s off the cluster agent's time", what, off)
		}
	}
}

// TestWhatTheOthersWereNotToldIsToldInTheNextSession has a broker keep an admission of before a change that this replica did not
// live to tell, nothing of a second node, and of a third what is known here.
func TestWhatTheOthersWereNotToldIsToldInTheNextSession(t *testing.T) {
	r := newRig(t, nil)
	for _, node := range []string{"n1", "n2", "n3"} {
		r.enrol(node)
	}
	r.enrol("n0")
	if err := r.enroll.Remove("n0", "alice"); err != nil {
		t.Fatal(err)
	}
	revisions, err := r.enroll.Revisions()
	if err != nil || len(revisions) != 4 {
		t.Fatalf("%v, %v", revisions, err)
	}
	s := newShare(r.Agent)
	s.heard = map[string]uint64{"n0": revisions["n0"] - 1, "n1": revisions["n1"] - 1, "n3": revisions["n3"]}
	s.since = s.now().Add(-time.Hour)
	if err := s.lookForForgotten(); err != nil {
		t.Fatal(err)
	}
	for node, want := range map[string]bool{"n0": true, "n1": true, "n2": true, "n3": false} {
		if s.untold[node] != want {
			t.Errorf("%s is to be told: %v; wanted %v", node, s.untold[node], want)
		}
	}
}

// TestAnAdmissionThatTheBrokerKeepsInPlaceOfANewerOneIsPutRight has a replica that was behind publish over it.
func TestAnAdmissionThatTheBrokerKeepsInPlaceOfANewerOneIsPutRight(t *testing.T) {
	r := newRig(t, nil)
	r.enrol("n1")
	s := newShare(r.Agent)
	before, err := r.enroll.Admission("n1")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.enroll.Remove("n1", "alice"); err != nil {
		t.Fatal(err)
	}
	after, err := r.enroll.Admission("n1")
	if err != nil {
		t.Fatal(err)
	}
	hear := func(adm *api.Admission) {
		t.Helper()
		signed, err := mqtt.Seal(r.authority.OrderSigner(), mqtt.KindAdmission, adm)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := json.Marshal(signed)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.onAdmission(t.Context(), mqtt.Inbound{Topic: r.topic(mqtt.KindAdmission, "n1", ""), Payload: payload, Retained: true}); err != nil {
			t.Fatal(err)
		}
	}
	if hear(after); len(s.untold) > 0 {
		t.Errorf("what the broker has is to be told: %v", s.untold)
	}
	if hear(before); !s.untold["n1"] || s.heard["n1"] >= after.Revision {
		t.Errorf("the broker keeps revision %d after %d, and the removal is not told again", s.heard["n1"], after.Revision)
	}
}

// TestWhatANewDeviceSaidIsNotClearedByWhoHearsOfItLate has another replica enrol a device under an old id.
func TestWhatANewDeviceSaidIsNotClearedByWhoHearsOfItLate(t *testing.T) {
	r := newRig(t, nil)
	p := r.connect("n1", r.enrol("n1"))
	p.say(r.topic(mqtt.KindState, "n1", ""), true, api.State{State: api.StateOnline, Epoch: 5, Boot: "b", At: api.At(time.Now())})
	if err := r.Merged(api.Node{ID: "n1", KeySHA256: "of another device"}); err != nil {
		t.Fatal(err)
	}
	topic := r.topic(mqtt.KindState, "n1", "")
	late := r.connect("operator:eve", r.operator("eve", api.RoleViewer), topic)
	eventually(t, "the broker still has its state", func() bool { return len(late.messages(topic)) > 0 && len(late.messages(topic)[0].Payload()) > 0 })
}

func TestWhatWasSubscribedToForANodeThatAnotherRemovedIsTakenBack(t *testing.T) {
	r := newRig(t, nil)
	r.enrol("n1")
	s := newShare(r.Agent)
	s.held["n1"] = &holding{met: 1}
	if err := s.forget(t.Context(), "n1", "alice"); err != nil {
		t.Fatal(err)
	}
	if _, known := r.registry.Get("n1"); known || s.held["n1"] == nil {
		t.Errorf("known %v, held %v; wanted it held until nodes are dealt out", known, s.held["n1"])
	}
}
