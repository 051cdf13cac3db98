package kube

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

var errUnchanged = errors.New("it has not changed")

func TestANodeCommandIsRunAndMirrored(t *testing.T) {
	p := cluster(t)
	s := newSite(t, p, "orders")
	s.stand("leading")
	edge := s.node("cmd-a")
	s.becomes("mlsysopsnode", "cmd-a", online, "True")
	s.order("cmd-ping", "cmd-a", "ping", "deadline: 30s")
	kubectl(t, p, "-n", agentNamespace, "wait", "nodecommand/cmd-ping", "--for=condition=Succeeded", "--timeout=60s")
	if got, err := s.phases("cmd-ping"); err != nil || got[0] != "queued" || got[len(got)-1] != "succeeded" {
		t.Errorf("history %v, %v; wanted from queued to succeeded", got, err)
	}
	if all := s.commands("cmd-a"); len(all) != 1 || all[0].By != "kube:mlsysops/cmd-ping" {
		t.Errorf("journal %+v; wanted one command, by its object", all)
	}

	for name, order := range map[string][3]string{ // node, verb, part of the reason
		"cmd-verb": {"cmd-a", "no-such-verb", "no-such-verb"},
		"cmd-role": {"cmd-a", "agent.restart", "takes admin"},
		"cmd-node": {"cmd-nobody", "ping", "no such node"},
	} {
		s.order(name, order[0], order[1], "deadline: 30s")
		s.becomes("nodecommand", name, ".status.phase", "rejected")
		if got, err := s.field("nodecommand", name, ".status.reason"); err != nil || !strings.Contains(got, order[2]) {
			t.Errorf("%s: %q, %v; wanted %q in it", name, got, err, order[2])
		}
	}

	s.order("cmd-ttl", "cmd-a", "ping", "deadline: 30s, ttlSecondsAfterFinished: 0")
	s.gone("nodecommand", "cmd-ttl")

	if err := edge.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	s.order("cmd-open", "cmd-a", "ping", "deadline: 1h")
	s.becomes("nodecommand", "cmd-open", ".status.phase", "queued")
	kubectl(t, p, "-n", agentNamespace, "delete", "nodecommand", "cmd-open", "--timeout=30s")
	if rec := s.commands("cmd-a")[0]; rec.Phase != api.PhaseCancelled {
		t.Errorf("%s of %s; wanted cancelled", rec.Phase, rec.By)
	}
}

func TestACommandEndsOnceOverRestartsOfTheClusterAgent(t *testing.T) {
	p := cluster(t)
	s := newSite(t, p, "restarts")
	s.stand("leading")
	s.node("rst-a")
	s.becomes("mlsysopsnode", "rst-a", online, "True")
	const count = 12
	for i := range count {
		s.order(fmt.Sprintf("rst-%d", i), "rst-a", "ping", "deadline: 3m")
		if i%4 == 1 {
			if err := s.cluster.Kill(); err != nil {
				t.Fatal(err)
			}
			s.start(s.cluster)
			s.learn()
		}
	}
	for i := range count {
		name := fmt.Sprintf("rst-%d", i)
		eventually(t, 2*time.Minute, name+" has ended", func() error {
			got, err := s.field("nodecommand", name, ".status.phase")
			if err == nil && got != "succeeded" {
				err = errors.New(got)
			}
			return err
		})
	}
	if all := s.commands("rst-a"); len(all) != count {
		t.Errorf("%d commands in the journal; wanted %d, one for each object", len(all), count)
	}
}
