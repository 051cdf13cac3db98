package system

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
)

// publish imports a release at one replica.
func (f *field) publish(version, program string, key ed25519.PrivateKey) {
	f.t.Helper()
	all, err := Release(version, program, "lite", key)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Minute)
	defer cancel()
	resp, err := f.client.Do(ctx, http.MethodPost, "/v1/releases", all)
	if err != nil {
		f.t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// updatable starts nodes of one version, each from a file of its own, which trust a key and join at a.
func (p *pair) updatable(program string, key ed25519.PrivateKey, n int) {
	p.t.Helper()
	token := p.fields["a"].join(api.TokenRequest{TTL: "1h", MaxUses: n}).Join
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		p.nodes = append(p.nodes, name)
		node := p.fields["a"].node(name, token, fmt.Sprintf("update: {keys: [%s], window: 60s}\n", release.KeyOf(key.Public().(ed25519.PublicKey))))
		node.Program = filepath.Join(p.dir, name+"-installed")
		copyFile(p.t, program, node.Program)
		start(p.t, node)
	}
}

// updates are how often each node was ordered to update with success, by the journals of all replicas.
func (p *pair) updates() map[string]int {
	p.t.Helper()
	done := map[string]int{}
	for _, f := range p.fields {
		var list api.List[api.CommandRecord]
		if err := f.get("/v1/commands?limit=1000", &list); err != nil {
			p.t.Fatal(err)
		}
		for _, c := range list.Items {
			if c.Verb == "agent.update" && c.Phase == api.PhaseSucceeded {
				done[c.Node]++
			}
		}
	}
	return done
}

// TestEachReplicaRollsOutToTheNodesThatItActsFor rolls a release out to all nodes at one of two replicas. It updates its own; the others wait, and it says
// whose they are. A rollout at the other one updates those. When that one dies, the first takes its nodes over, finds them updated and ends: each
// node was updated once.
func TestEachReplicaRollsOutToTheNodesThatItActsFor(t *testing.T) {
	t.Parallel()
	p := newPair(t, func(p *pair, conf string) { mosquitto(p.t, p.dir, conf, p.broker[strings.LastIndex(p.broker, ":")+1:]) })
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	programs := map[string]string{}
	for _, v := range []string{oldVersion, newVersion} {
		program, err := BuildEdge(t.Context(), p.dir, v, "lite")
		if err != nil {
			t.Fatal(err)
		}
		programs[v] = program
	}
	p.updatable(programs[oldVersion], key, 4)
	t.Logf("owners: %v", p.settled(time.Minute, "a", "b"))
	a, b := p.fields["a"], p.fields["b"]
	a.publish(newVersion, programs[newVersion], key)
	var first, second api.Rollout
	if err := a.post("/v1/rollouts", api.RolloutSpec{Name: "all", Version: newVersion, Selector: "=", Batch: "100%"}, &first); err != nil {
		t.Fatal(err)
	}
	var others []string
	poll(t, 3*time.Minute, "a's nodes are updated, and b's wait for b", func() error {
		owners, err := p.owners("a", "b")
		if err != nil {
			return err
		}
		if err := a.get("/v1/rollouts/all", &first); err != nil {
			return err
		}
		others = nil
		for _, m := range first.Members {
			switch {
			case owners[m.Node] == "a" && m.State == api.RolloutDone:
			case owners[m.Node] == "b" && m.State == api.RolloutWaiting && strings.Contains(m.Reason, "replica b acts for it"):
				others = append(others, m.Node)
			default:
				return fmt.Errorf("%+v, which %s acts for", m, owners[m.Node])
			}
		}
		return nil
	})
	if len(others) == 0 {
		t.Fatal("b has no node; the test proves nothing")
	}
	spec := api.RolloutSpec{Name: "rest", Version: newVersion, Nodes: others, Batch: "100%"}
	if err := b.post("/v1/rollouts", spec, &second); err == nil || !strings.Contains(err.Error(), "not kept here") {
		t.Errorf("%v; wanted the release to be asked for at b too", err)
	}
	b.publish(newVersion, programs[newVersion], key)
	if err := b.post("/v1/rollouts", spec, &second); err != nil {
		t.Fatal(err)
	}
	poll(t, 3*time.Minute, "b's rollout succeeds", func() error {
		if err := b.get("/v1/rollouts/rest", &second); err != nil {
			return err
		}
		if second.State != api.RolloutSucceeded {
			return fmt.Errorf("%+v", second)
		}
		return nil
	})
	done := p.updates()
	for _, n := range p.nodes {
		if done[n] != 1 {
			t.Errorf("%s was updated %d times; wanted once", n, done[n])
		}
	}
	kill(t, b.cluster)
	poll(t, time.Minute, "a takes b's nodes over, and its rollout ends", func() error {
		if err := a.get("/v1/rollouts/all", &first); err != nil {
			return err
		}
		if first.State != api.RolloutSucceeded || first.Counts.Succeeded != len(p.nodes) {
			return fmt.Errorf("%+v", first)
		}
		return nil
	})
	b.client = a.client // b is dead; what it had done is counted above
	for n, times := range p.updates() {
		if slices.Contains(others, n) && times > 0 {
			t.Errorf("a updated %s, which b had done", n)
		}
	}
}
