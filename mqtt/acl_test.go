package mqtt_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

func aclTopics(t testing.TB) mqtt.Topics {
	t.Helper()
	topics, err := mqtt.NewTopics("", "c1")
	if err != nil {
		t.Fatal(err)
	}
	return topics
}

// TestTheContractDecidesWhoPublishesAndReadsWhat states the rule anew, kind by kind, rather than by direction.
func TestTheContractDecidesWhoPublishesAndReadsWhat(t *testing.T) {
	topics := aclTopics(t)
	type rule struct{ nodeWrites, nodeReads, viewerReads, operatorReads, operatorWrites bool }
	up, down, silentUp := rule{nodeWrites: true, viewerReads: true, operatorReads: true}, rule{nodeReads: true}, rule{nodeWrites: true}
	rules := map[mqtt.Kind]rule{
		mqtt.KindState: up, mqtt.KindBirth: up, mqtt.KindTele: up, mqtt.KindEvent: up, mqtt.KindReported: up,
		mqtt.KindCmdStatus: {nodeWrites: true, operatorReads: true}, // it holds output and results
		mqtt.KindDesired:   down, mqtt.KindCmd: down, mqtt.KindAck: down, mqtt.KindStreamDown: down, mqtt.KindStreamUp: silentUp,
		mqtt.KindRequest: {operatorWrites: true}, mqtt.KindRequestStatus: {operatorReads: true},
		mqtt.KindReplica: {}, mqtt.KindAdmission: {}, // cluster agents among themselves
	}
	ids := identities()
	for _, e := range mqtt.Contract() {
		r, ok := rules[e.Kind]
		if !ok {
			t.Fatalf("%s is new: say here who may do what with it", e.Name)
		}
		own, others := topics.Of(e.Kind, "n1", "x1"), topics.Of(e.Kind, "n2", "x1")
		for _, c := range []struct {
			who       string
			topic     string
			write, ok bool
		}{
			{"node", own, true, r.nodeWrites}, {"node", own, false, r.nodeReads}, {"node", others, true, false}, {"node", others, false, false},
			{"node", topics.Filter(e.Kind, "n1"), false, r.nodeReads}, {"node", topics.Filter(e.Kind, "+"), false, false},
			{"node", topics.Filter(e.Kind, "n2"), false, false},
			{"viewer", own, true, false}, {"viewer", own, false, r.viewerReads}, {"viewer", topics.Filter(e.Kind, "+"), false, r.viewerReads},
			{"operator", own, true, r.operatorWrites}, {"operator", own, false, r.operatorReads}, {"operator", topics.Filter(e.Kind, "+"), false, r.operatorReads},
			{"admin", own, true, r.operatorWrites}, {"admin", own, false, r.operatorReads}, {"admin", topics.Filter(e.Kind, "+"), false, r.operatorReads},
			{"cluster", own, true, true}, {"cluster", topics.Filter(e.Kind, "+"), false, true}, {"cluster", topics.Filter(e.Kind, "+"), true, false},
		} {
			if got := topics.May(ids[c.who], c.topic, c.write); got != c.ok {
				t.Errorf("%s, %s, write %t: %t; wanted %t", c.who, c.topic, c.write, got, c.ok)
			}
		}
	}
}

func TestFiltersAreGrantedOnlyWhereSomethingCanBeRead(t *testing.T) {
	topics := aclTopics(t)
	base := strings.TrimSuffix(topics.All(), "#")
	node := []string{"n1/cmd/+", "n1/stream/+/down", "n1/desired", "n1/ack", "n1/cmd/k1"}
	viewer := []string{"#", "n1/#", "+/#", "+/state", "+/+", "n1/+"}
	operator := append(slices.Clone(viewer), "+/cmd/#", "+/cmd/+/status", "n1/cmd/k1/status", "+/+/+/status", "n1/request/#", "+/request/+/status")
	nobody := []string{"+/desired", "n1/stream/#", "+/stream/+/up", "+/cmd/+", "n1/ack/#", "n1/", "", "+", "n1", "n1/state/x", "n1/state/+",
		"n1/cmd/#/status", "#/state", "n1/sta+", "n1/cmd/A/status", "N1/state", "+/+/+/+/+/#", "n1//status"}
	for _, c := range []struct {
		who     string
		granted []string
	}{{"node", node}, {"viewer", viewer}, {"operator", operator}, {"admin", operator}} {
		for _, filter := range slices.Concat(node, operator, nobody) {
			if got, want := topics.May(identities()[c.who], base+filter, false), slices.Contains(c.granted, filter); got != want {
				t.Errorf("%s subscribes to %s: %t; wanted %t", c.who, filter, got, want)
			}
		}
	}
	for _, filter := range []string{"#", "+/#", "$SYS/#", "$share/g/" + base + "#", "skerry/#", strings.TrimSuffix(base, "/"), strings.Replace(base, "c1", "c2", 1) + "#",
		strings.Replace(base, "c1", "+", 1) + "#"} {
		for who, id := range identities() {
			want := who == "cluster" && filter == "$SYS/#"
			if got := topics.May(id, filter, false); got != want {
				t.Errorf("%s subscribes to %s: %t; wanted %t", who, filter, got, want)
			}
		}
	}
}

func TestNobodyOfAnotherClusterMayAnything(t *testing.T) {
	topics := aclTopics(t)
	for who, id := range identities() {
		id.Cluster = "c2"
		for _, e := range mqtt.Contract() {
			for _, write := range []bool{true, false} {
				if topics.May(id, topics.Of(e.Kind, "n1", "x"), write) {
					t.Errorf("%s of c2: %s, write %t", who, e.Name, write)
				}
			}
		}
	}
	if topics.May(mqtt.Identity{}, topics.All(), false) || topics.May(mqtt.Identity{Kind: mqtt.OperatorIdentity, Role: api.Role("god"), Cluster: "c1"}, topics.All(), false) {
		t.Error("somebody without kind or role may read")
	}
}

// FuzzMay holds May against what the granted filter would let through: nothing that is not readable by itself.
func FuzzMay(f *testing.F) {
	topics := aclTopics(f)
	for _, e := range mqtt.Contract() {
		f.Add(topics.Filter(e.Kind, "+"), true)
		f.Add(topics.Of(e.Kind, "n1", "x"), false)
	}
	f.Add(topics.All(), false)
	f.Fuzz(func(t *testing.T, topic string, write bool) {
		for who, id := range identities() {
			if !topics.May(id, topic, write) || who == "cluster" {
				continue
			}
			if !strings.HasPrefix(topic, topics.Root+"/c1/") {
				t.Fatalf("%s may %q outside of its cluster", who, topic)
			}
			if who == "node" && !strings.HasPrefix(topic, topics.Root+"/c1/n1/") {
				t.Fatalf("node may %q, which is not its own", topic)
			}
			if strings.ContainsAny(topic, "+#") == write && write {
				t.Fatalf("%s may publish to the wildcard %q", who, topic)
			}
			if _, err := topics.Parse(topic); err != nil && !strings.ContainsAny(topic, "+#") {
				t.Fatalf("%s may %q, which is no topic: %v", who, topic, err)
			}
		}
	})
}

func BenchmarkMay(b *testing.B) {
	topics := aclTopics(b)
	id, topic := identities()["node"], topics.Of(mqtt.KindTele, "n1", "")
	b.ReportAllocs()
	for b.Loop() {
		if !topics.May(id, topic, true) {
			b.Fatal("refused")
		}
	}
}
