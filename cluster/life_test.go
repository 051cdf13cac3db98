package cluster

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// TestARemovalThatDidNotComeToItsEndCanBeRepeated: the certificate is revoked first, and the rest may have failed.
func TestARemovalThatDidNotComeToItsEndCanBeRepeated(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, false)
	if err := r.enroll.Remove("n1", "somebody"); err != nil {
		t.Fatal(err)
	}
	must[struct{}](r, "DELETE", "/v1/nodes/n1", nil)
	for _, method := range []string{"GET", "DELETE"} {
		if status, text := r.call(r.root(), method, "/v1/nodes/n1", ""); status != 404 {
			t.Errorf("%s: %d %s", method, status, text)
		}
	}
}

func TestARemovedNodeLeavesNothingBehind(t *testing.T) {
	r := newRig(t, nil)
	cert := r.enrol("n1")
	d := r.online("n1", cert, 1, false)
	r.online("n2", r.enrol("n2"), 1, false)
	d.say(r.topic(mqtt.KindReported, "n1", ""), true, api.Reported{Generation: 1, Epoch: 1})
	order := must[api.List[api.CommandRecord]](r, "POST", "/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, Verb: "ping", Deadline: "1h"}).Items[0]

	must[struct{}](r, "DELETE", "/v1/nodes/n1", nil)

	select {
	case <-d.lost:
	case <-time.After(patience):
		t.Error("its session goes on")
	}
	if _, err := r.tryConnect("n1", cert); err == nil {
		t.Error("it was let in again")
	}
	if status, text := r.call(caller{}, "GET", "/v1/nodes/n1", ""); status != 401 {
		t.Errorf("%d %s", status, text)
	}
	if status, text := r.call(r.root(), "GET", "/v1/nodes/n1", ""); status != 404 {
		t.Errorf("%d %s", status, text)
	}
	watcher := r.connect("operator-a", r.operator("a", api.RoleViewer), r.topics.All())
	eventually(t, "what n2 said is read", func() bool { return len(watcher.messages(r.topic(mqtt.KindBirth, "n2", ""))) > 0 })
	for _, e := range mqtt.Contract() {
		if got := watcher.messages(r.topic(e.Kind, "n1", "")); e.Retain && len(got) > 0 {
			t.Errorf("%s is still retained: %s", e.Name, got[0].Payload())
		}
	}
	rec := must[api.CommandRecord](r, "GET", "/v1/commands/"+order.ID, nil)
	if !rec.Final {
		t.Errorf("its order is still %s", rec.Phase)
	}
	if status, text := r.call(r.root(), "POST", "/v1/commands", `{"nodes":["n1"],"verb":"ping","deadline":"10s"}`); status != 404 {
		t.Errorf("a new order: %d %s", status, text)
	}
	if _, text := r.call(r.root(), "GET", "/v1/events?node=n1", ""); strings.Count(text, `"node.removed"`) != 1 || !strings.Contains(text, "by admin") {
		t.Errorf("events: %s", text)
	}
	if status, text := r.call(r.root(), "DELETE", "/v1/nodes/n1", ""); status != 404 {
		t.Errorf("removed twice: %d %s", status, text)
	}
	// Another device may have the id afterwards, and is given nothing of the first one's.
	again := r.online("n1", r.enrol("n1"), 1, true)
	if got := again.messages(r.topic(mqtt.KindCmd, "n1", order.ID)); len(got) > 0 {
		t.Error("the new device was given the old one's order")
	}
}

func TestARestartLosesNothingThatWasPromised(t *testing.T) {
	r := newRig(t, nil)
	cert := r.enrol("n1")
	d := r.online("n1", cert, 1, false)
	d.Disconnect(100)
	eventually(t, "it is gone", func() bool {
		return must[api.Node](r, "GET", "/v1/nodes/n1", nil).Presence == api.PresenceDisconnected
	})
	var order api.CommandRecord
	eventually(t, "what is ordered of a node that is away waits", func() bool { // the journal is told of the link for itself, and may be a moment behind
		order = must[api.List[api.CommandRecord]](r, "POST", "/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, Verb: "ping", Deadline: "1h"}).Items[0]
		return order.Phase == api.PhaseQueued
	})
	op := r.connect("operator-a", r.operator("a", api.RoleOperator), r.topics.All())
	audited := len(r.audited())

	r.stop()
	select {
	case <-op.lost:
	case <-time.After(patience):
		t.Error("the broker did not say goodbye")
	}
	r.start()

	if n := must[api.Node](r, "GET", "/v1/nodes/n1", nil); n.Birth == nil || n.ID != "n1" {
		t.Errorf("the node is not remembered: %+v", n)
	}
	if n := len(r.audited()); n < audited {
		t.Errorf("%d audit entries; there were %d", n, audited)
	}
	r.online("n1", cert, 2, true)
	eventually(t, "the order is carried out", func() bool {
		return must[api.CommandRecord](r, "GET", "/v1/commands/"+order.ID, nil).Phase == api.PhaseSucceeded
	})
}

// TestAnAddressThatCannotBeWrittenDownStopsNobody has admin.yaml refuse to be written, as on a full disk.
func TestAnAddressThatCannotBeWrittenDownStopsNobody(t *testing.T) {
	r := newRig(t, nil)
	path := filepath.Join(r.dir, "admin.yaml")
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"nothing is new": string(before), "the address is new": strings.Replace(string(before), r.admin.Server, "https://elsewhere", 1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.writeAdmin(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(os.Remove(path+".new"), r.writeAdmin()); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("when there is room again: %s, %v; wanted the address corrected", after, err)
	}
}

func TestAStopCutsNoAnswerShort(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, false)
	done := make(chan string, 1)
	go func() { // a log of a node that never answers
		_, text := r.call(r.root(), "GET", "/v1/nodes/n1/logs?follow=true", "")
		done <- text
	}()
	eventually(t, "the command is there", func() bool {
		return len(must[api.List[api.CommandRecord]](r, "GET", "/v1/commands?node=n1", nil).Items) > 0
	})
	r.stop()
	select {
	case text := <-done:
		if !strings.Contains(text, `"stopping"`) {
			t.Errorf("answer %q", text)
		}
	case <-time.After(patience):
		t.Error("the caller still waits")
	}
}

func TestAWatchOfOneNodeBeginsWithThatOne(t *testing.T) {
	r := newRig(t, nil)
	for _, id := range []string{"n1", "n2"} {
		r.enrol(id)
	}
	req := "/v1/watch?kind=node&node=n2&initial=true"
	text := r.firstChange(req)
	if !strings.Contains(text, `"n2"`) || strings.Contains(text, `"n1"`) {
		t.Errorf("%s: %s", req, text)
	}
}
