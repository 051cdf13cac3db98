package system

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/freeport"
)

const (
	replicaNodes   = 8
	replicaTimeout = 8 * time.Second
	// takenWithin is how long the nodes of a killed replica may be without an owner: its connection ends with it, so its last
	// will is out at once.
	takenWithin = 5 * time.Second
)

// pair is two replicas, a and b, and the nodes of both.
type pair struct {
	t       *testing.T
	dir     string
	broker  string // host:port
	fields  map[string]*field
	nodes   []string
	started time.Time
	script  string
	slow    string // the same, and takes 10 s
	effects string
}

// newPair starts two replicas on a broker, which starts with the files that broker-config wrote.
func newPair(t *testing.T, start func(p *pair, conf string)) *pair {
	t.Helper()
	p := &pair{t: t, dir: t.TempDir(), broker: freeport.Addr(t), fields: map[string]*field{}, started: time.Now()}
	conf := filepath.Join(p.dir, "broker")
	runProgram(t, "skerry-cluster", "broker-config", "--out", conf, "--set", "cluster=test", "--set", "dir="+filepath.Join(p.dir, "a", "cluster"),
		"--set", "mqtt.external=mqtts://"+p.broker, "--set", "advertise=127.0.0.1", "--set", "replica.names=a,b")
	start(p, conf)
	for _, name := range []string{"a", "b"} {
		dir := filepath.Join(p.dir, name, "cluster")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"ca.crt", "ca.key", "orders.key"} { // one authority for all
			raw, err := os.ReadFile(filepath.Join(p.dir, "a", "cluster", file))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), raw, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		p.fields[name] = fieldIn(t, filepath.Join(p.dir, name), "mqtt.external=mqtts://"+p.broker, "mqtt.node_servers=mqtts://"+p.broker,
			"replica.name="+name, "replica.names=a,b", "replica.timeout="+replicaTimeout.String(), "log.level=debug")
	}
	p.script, p.effects = appender(t, p.dir)
	p.slow = filepath.Join(p.dir, "slow.sh")
	if err := os.WriteFile(p.slow, []byte("#!/bin/sh\n"+p.script+" \"$1\"\nsleep 10\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

// enrol starts nodes, all of which join at a.
func (p *pair) enrol(n int) {
	p.t.Helper()
	token := p.fields["a"].join(api.TokenRequest{TTL: "1h", MaxUses: n}).Join
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		p.nodes = append(p.nodes, name)
		start(p.t, p.fields["a"].node(name, token, fmt.Sprintf(
			"telemetry: {interval: 1s}\ncommand: {exec: [{name: append, argv: [%s], args: ['[a-z0-9]+'], timeout: 20s}, "+
				"{name: slow, argv: [%s], args: ['[a-z0-9]+'], timeout: 20s}]}\n", p.script, p.slow)))
	}
}

// owners is who acts for each node, by the word of the replicas in names: exactly one of them has to be the one, and all have to
// agree on it. With both, both have some.
func (p *pair) owners(names ...string) (map[string]string, error) {
	owners := map[string]string{}
	for _, name := range names {
		var list api.List[api.Node]
		if err := p.fields[name].get("/v1/nodes", &list); err != nil {
			return nil, err
		}
		if len(list.Items) != len(p.nodes) {
			return nil, fmt.Errorf("%s knows %d nodes; wanted %d", name, len(list.Items), len(p.nodes))
		}
		for _, n := range list.Items {
			switch {
			case n.Owner == nil || !slices.Contains(names, n.Owner.Replica):
				return nil, fmt.Errorf("%s says of %s: owner %+v", name, n.ID, n.Owner)
			case owners[n.ID] != "" && owners[n.ID] != n.Owner.Replica:
				return nil, fmt.Errorf("%s belongs to %s and to %s", n.ID, owners[n.ID], n.Owner.Replica)
			case n.Owner.Here != (n.Owner.Replica == name):
				return nil, fmt.Errorf("%s says of %s: %+v", name, n.ID, *n.Owner)
			case n.Owner.Here && n.Presence != api.PresenceOnline:
				return nil, fmt.Errorf("%s is %s at its owner %s: %s", n.ID, n.Presence, name, n.Reason)
			case !n.Owner.Here && n.Presence != api.PresenceElsewhere:
				return nil, fmt.Errorf("%s is %s at %s, which does not own it", n.ID, n.Presence, name)
			}
			owners[n.ID] = n.Owner.Replica
		}
	}
	return owners, nil
}

// settled waits until the replicas in names own all nodes between them.
func (p *pair) settled(limit time.Duration, names ...string) (owners map[string]string) {
	p.t.Helper()
	poll(p.t, limit, fmt.Sprintf("%v own all nodes between them", names), func() (err error) {
		owners, err = p.owners(names...)
		return err
	})
	return owners
}

// TestNodesOfAKilledReplicaAreTakenOver kills one of two replicas under telemetry and commands, and starts it again. All
// nodes have an owner within takenWithin, every command ends once in the journal that took it, every effect happens at
// most once, and no scrape is in neither of the two stores.
func TestNodesOfAKilledReplicaAreTakenOver(t *testing.T) {
	t.Parallel()
	onEachBroker(t, killReplica)
}

// onEachBroker runs a test on two replicas on mosquitto, and on two on NATS.
func onEachBroker(t *testing.T, test func(t *testing.T, p *pair)) {
	t.Helper()
	for name, broker := range map[string]func(p *pair, conf string){"mosquitto": mosquittoOf, "nats": natsServer} {
		t.Run(name, func(t *testing.T) { test(t, newPair(t, broker)) })
	}
}

// mosquittoOf starts the mosquitto of a pair.
func mosquittoOf(p *pair, conf string) {
	mosquitto(p.t, p.dir, conf, p.broker[strings.LastIndex(p.broker, ":")+1:])
}

func killReplica(t *testing.T, p *pair) {
	p.enrol(replicaNodes)
	owners := p.settled(time.Minute, "a", "b")
	t.Logf("owners: %v", owners)
	dead, heir := owners["n1"], "a"
	if dead == "a" {
		heir = "b"
	}
	p.refused("n1", heir, p.fields[dead].admin.Server)

	stop, issued := make(chan struct{}), make(chan []order)
	go func() { issued <- p.issue(stop) }()
	pass(t, 6*time.Second)
	begun := order{api.NewID(), dead, "exec"}                                 // it ends while its replica is dead
	poll(t, time.Minute, "n1's owner takes the command", func() (err error) { // who that is may have changed, on a busy machine
		if owners, err = p.owners("a", "b"); err != nil {
			return err
		}
		if begun.replica = owners["n1"]; begun.replica != dead {
			dead, heir = heir, dead
		}
		return p.fields[dead].post("/v1/commands", api.CommandRequest{ID: begun.id, Nodes: []string{"n1"}, Verb: "exec",
			Args: map[string]any{"argv": []string{p.slow, begun.id}}, Deadline: "2m"}, nil)
	})
	poll(t, time.Minute, "it runs", func() error {
		if linesOf(t, p.effects)[begun.id] == 0 {
			return errors.New("no effect yet")
		}
		return nil
	})
	killed := time.Now()
	kill(t, p.fields[dead].cluster)
	p.settled(takenWithin, heir)
	t.Logf("%s took all nodes over within %s of the death of %s", heir, time.Since(killed).Round(10*time.Millisecond), dead)
	pass(t, 15*time.Second)
	start(t, p.fields[dead].cluster)
	again := time.Now()
	p.settled(30*time.Second, "a", "b")
	t.Logf("both own their nodes %s after %s was started again", time.Since(again).Round(10*time.Millisecond), dead)
	pass(t, 5*time.Second)
	close(stop)
	p.judge(append(<-issued, begun))
	var rec api.CommandRecord
	if err := p.fields[dead].get("/v1/commands/"+begun.id, &rec); err != nil || rec.Phase != api.PhaseSucceeded {
		t.Errorf("what ran as its replica died is %s (%v); wanted succeeded, by the node's word", rec.Phase, err)
	}
	p.unbroken()
}

// TestAReplicaThatWasFrozenActsForNobody stops one of two replicas for longer than the others wait, under orders to both, and
// lets it go on: what it was about to do then is not done, and everything adds up.
func TestAReplicaThatWasFrozenActsForNobody(t *testing.T) {
	t.Parallel()
	onEachBroker(t, freezeReplica)
}

func freezeReplica(t *testing.T, p *pair) {
	p.enrol(replicaNodes)
	owners := p.settled(time.Minute, "a", "b")
	frozen, heir := owners["n1"], "a"
	if frozen == "a" {
		heir = "b"
	}
	stop, issued := make(chan struct{}), make(chan []order)
	go func() { issued <- p.issue(stop) }()
	pass(t, 4*time.Second)
	if err := p.fields[frozen].cluster.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	p.settled(replicaTimeout+takenWithin, heir)
	t.Logf("%s took all nodes over %s after %s was frozen", heir, time.Since(since).Round(10*time.Millisecond), frozen)
	pass(t, 5*time.Second)
	if err := p.fields[frozen].cluster.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.settled(30*time.Second, "a", "b")
	pass(t, 5*time.Second)
	close(stop)
	p.judge(<-issued)
	p.unbroken()
}

// TestTheBrokerMayForgetEverything stops a replica, kills a broker that keeps nothing through a restart, and takes from one
// replica all that it
// knew but the CA: presence, claims and enrolments are told anew, and it learns every node from the other.
func TestTheBrokerMayForgetEverything(t *testing.T) {
	t.Parallel()
	var broker *Process
	p := newPair(t, func(p *pair, conf string) {
		broker = mosquitto(p.t, p.dir, conf, p.broker[strings.LastIndex(p.broker, ":")+1:])
	})
	p.enrol(replicaNodes)
	for node, owner := range p.settled(time.Minute, "a", "b") {
		if err := p.fields[owner].client.Patch(t.Context(), "/v1/nodes/"+node, api.NodePatch{Labels: map[string]string{"rack": node}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	pass(t, time.Second)                                                 // on their way
	if err := p.fields["b"].cluster.Stop(20 * time.Second); err != nil { // it says goodbye
		t.Fatal(err)
	}
	p.settled(takenWithin, "a")
	kill(t, broker)
	start(t, broker)
	p.settled(time.Minute, "a")
	dir := filepath.Join(p.dir, "b", "cluster")
	for _, name := range []string{"cluster.db", "admin.yaml"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	start(t, p.fields["b"].cluster)
	poll(t, time.Minute, "b answers", func() error { return p.fields["b"].learn(dir) })
	owners := p.settled(time.Minute, "a", "b")
	for _, node := range p.nodes {
		p.fields[owners[node]].ping(node)
		poll(t, time.Minute, "the labels of "+node+" are there", func() error {
			var n api.Node
			if err := p.fields[owners[node]].get("/v1/nodes/"+node, &n); err != nil || n.Labels["rack"] != node {
				return fmt.Errorf("labels %v, %v", n.Labels, err)
			}
			return nil
		})
	}
}

// refused wants the replica that does not own node to say who does.
func (p *pair) refused(node, by, url string) {
	p.t.Helper()
	var problem *api.Problem
	err := p.fields[by].post("/v1/commands", api.CommandRequest{Nodes: []string{node}, Verb: "ping", Deadline: "10s"}, nil)
	if !errors.As(err, &problem) || problem.Status != http.StatusMisdirectedRequest || !strings.Contains(problem.Cure, url) {
		p.t.Errorf("%s was asked for %s, which is not its own: %v; wanted 421 with %s", by, node, err, url)
	}
}

// order is a command that a replica took.
type order struct{ id, replica, verb string }

// issue orders commands of whoever owns the nodes, until stop.
func (p *pair) issue(stop <-chan struct{}) (taken []order) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	dice := rand.New(rand.NewPCG(uint64(p.started.UnixNano()), 1))
	for i := 0; ; i++ {
		select {
		case <-stop:
			return taken
		case <-tick.C:
		}
		node, id := p.nodes[dice.IntN(len(p.nodes))], api.NewID()
		req := api.CommandRequest{ID: id, Nodes: []string{node}, Verb: "exec", Args: map[string]any{"argv": []string{p.script, id}}, Deadline: "25s"}
		if i%2 == 0 {
			req.Verb, req.Args = "ping", nil
		}
		for _, name := range []string{"a", "b"} { // one of them owns it, or none at the moment
			var problem *api.Problem
			err := p.fields[name].post("/v1/commands", req, nil)
			if err == nil || !errors.As(err, &problem) { // no answer: it may have been taken
				taken = append(taken, order{id, name, req.Verb})
			}
			if err == nil {
				break
			}
		}
	}
}

// judge wants one end of every command in the journal that has it, and at most one effect of each.
func (p *pair) judge(taken []order) {
	p.t.Helper()
	ends, lost := map[api.Phase]int{}, 0
	records := make([]api.CommandRecord, len(taken))
	for i, o := range taken {
		poll(p.t, time.Minute, "the command "+o.id+" ends", func() error {
			rec := &records[i]
			*rec = api.CommandRecord{}
			var problem *api.Problem
			err := p.fields[o.replica].get("/v1/commands/"+o.id, rec)
			if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
				lost++ // it was asked while it died, and did not answer
				return nil
			}
			if err == nil && !rec.Final {
				err = fmt.Errorf("history %v", rec.History)
			}
			return err
		})
	}
	done := linesOf(p.t, p.effects)
	for i, o := range taken {
		rec := records[i]
		if rec.ID == "" {
			continue
		}
		ends[rec.Phase]++
		finals := slices.DeleteFunc(slices.Clone(rec.History), func(x api.Transition) bool { return !x.Phase.Final() })
		switch {
		case finals[0].Phase != rec.Phase:
			p.t.Errorf("command %s is %s, its history %v", o.id, rec.Phase, rec.History)
		case o.verb == "exec" && rec.Phase == api.PhaseSucceeded && done[o.id] != 1:
			p.t.Errorf("command %s succeeded with %d effects", o.id, done[o.id])
		case done[o.id] > 0 && (rec.Phase == api.PhaseRejected || rec.Phase == api.PhaseExpired):
			p.t.Errorf("command %s is %s, yet it took effect", o.id, rec.Phase)
		}
	}
	for id, n := range done {
		if n > 1 {
			p.t.Errorf("command %s took effect %d times", id, n)
		}
	}
	p.t.Logf("%d orders, %d without an answer and not taken; ends: %v", len(taken), lost, ends)
	if ends[api.PhaseSucceeded] < len(taken)*3/4 {
		p.t.Errorf("only %d of %d commands succeeded", ends[api.PhaseSucceeded], len(taken))
	}
}

// unbroken wants every scrape of every node in one of the two stores at least.
func (p *pair) unbroken() {
	p.t.Helper()
	for _, node := range p.nodes {
		poll(p.t, 2*time.Minute, "no scrape of "+node+" is in neither store", func() error {
			all := map[time.Time]sample{}
			for _, f := range p.fields {
				list, err := f.samples(`skerry_edge_scrapes_total{node="` + node + `"}`)
				if err != nil {
					return err
				}
				for _, s := range list {
					all[s.at] = s
				}
			}
			merged := make([]sample, 0, len(all))
			for _, s := range all {
				merged = append(merged, s)
			}
			slices.SortFunc(merged, func(x, y sample) int { return x.at.Compare(y.at) })
			return unbroken([]time.Time{time.Now()}, merged)
		})
	}
}
