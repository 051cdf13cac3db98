package kube

import (
	"errors"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestWithoutItsAPIServerNothingElseIsMissed takes the API server away with commands open, orders over REST, changes the
// fleet, restarts the cluster agent, and brings it back. It has a control plane of its own.
func TestWithoutItsAPIServerNothingElseIsMissed(t *testing.T) {
	p := Start(t, Options{})
	s := newSite(t, p, "away")
	s.stand("leading")
	s.node("away-a")
	s.becomes("mlsysopsnode", "away-a", online, "True")
	b := s.node("away-b")
	s.becomes("mlsysopsnode", "away-b", online, "True")
	if err := b.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	s.order("away-open", "away-b", "ping", "deadline: 10m")
	s.becomes("nodecommand", "away-open", ".status.phase", "queued")

	if err := p.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	s.stand("down")
	ping := func() {
		t.Helper()
		var list api.List[api.CommandRecord]
		if err := s.client.Post(t.Context(), "/v1/commands", api.CommandRequest{Nodes: []string{"away-a"}, Verb: "ping", Deadline: "30s"}, &list); err != nil || len(list.Items) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		id := list.Items[0].ID
		eventually(t, time.Minute, "a ping over REST", func() error {
			var rec api.CommandRecord
			if err := s.client.Get(t.Context(), "/v1/commands/"+id, &rec); err != nil {
				return err
			}
			if rec.Phase != api.PhaseSucceeded {
				return errors.New(string(rec.Phase))
			}
			return nil
		})
	}
	ping()
	s.start(b) // the open command runs while nobody can see it in Kubernetes
	eventually(t, time.Minute, "the open command ends", func() error {
		if rec := s.commands("away-b")[0]; rec.Phase != api.PhaseSucceeded {
			return errors.New(string(rec.Phase))
		}
		return nil
	})
	if err := s.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	s.start(s.cluster)
	s.learn()
	s.node("away-c")
	s.knows("away-a", "away-b", "away-c")
	eventually(t, time.Minute, "a node is back without Kubernetes", func() error {
		var n api.Node
		if err := s.client.Get(t.Context(), "/v1/nodes/away-a", &n); err != nil {
			return err
		}
		if n.Presence != api.PresenceOnline {
			return errors.New(n.Reason)
		}
		return nil
	})
	ping()

	if err := p.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.stand("leading")
	s.becomes("nodecommand", "away-open", ".status.phase", "succeeded")
	s.becomes("mlsysopsnode", "away-c", online, "True")
	s.becomes("mlsysopsnode", "away-b", online, "True")
	s.becomes("mlsysopscluster", "away", ".nodes[*]", "away-a away-b away-c")
	if all := s.commands("away-b"); len(all) != 1 {
		t.Errorf("%d commands of away-b; wanted the one", len(all))
	}
}

func TestASecondClusterAgentStandsBy(t *testing.T) {
	p := cluster(t)
	first := newSite(t, p, "standby")
	first.stand("leading")
	second := newSite(t, p, "standby")
	second.stand("standing by")
	if err := first.cluster.Stop(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	second.stand("leading")
}
