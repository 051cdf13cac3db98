package system

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestANodeLeavesItsClusterByItsOwnCertificate takes one out of service; the other stays as it is.
func TestANodeLeavesItsClusterByItsOwnCertificate(t *testing.T) {
	f := newField(t)
	token := f.join(api.TokenRequest{TTL: "1h", MaxUses: 2}).Join
	leaver, stayer := f.node("leaver", token, ""), f.node("stayer", token, "")
	leave := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), leaver.Program, "leave", "--config", leaver.Args[2]).CombinedOutput()
		return string(out), err
	}
	if out, err := leave(); err == nil || !strings.Contains(out, "this node is in no cluster") {
		t.Errorf("leave before it has joined: %v, %s", err, out)
	}
	start(t, leaver)
	start(t, stayer)
	f.online("leaver")
	f.online("stayer")
	if out, err := leave(); err != nil || !strings.Contains(out, "node leaver has left cluster "+f.status.Cluster) {
		t.Fatalf("leave: %v, %s", err, out)
	}
	var p *api.Problem
	if err := f.get("/v1/nodes/leaver", &api.Node{}); !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("the node that left: %v; wanted 404", err)
	}
	f.ping("stayer")
	if out, err := leave(); err != nil || !strings.Contains(out, "node leaver has left cluster "+f.status.Cluster) { // the answer may have been lost
		t.Errorf("leave again: %v, %s", err, out)
	}
	poll(t, time.Minute, "the one that left says why it is not online", func() error {
		out, err := exec.CommandContext(t.Context(), leaver.Program, "status", "--config", leaver.Args[2]).CombinedOutput()
		if err == nil && strings.Contains(string(out), "connected") && !strings.Contains(string(out), "not") {
			err = errors.New(string(out))
		}
		return err
	})
}
