package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/doctor"
)

// TestWipedNodeRejoinsAfterApproval loses a node's disk. With a new token it waits for a person, and then is the same
// node with the history it had.
func TestWipedNodeRejoinsAfterApproval(t *testing.T) {
	t.Parallel()
	f := newField(t)
	node := f.node("wiped", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	start(t, node)
	f.online("wiped")
	f.ping("wiped")
	var before, after api.Node
	if err := f.get("/v1/nodes/wiped", &before); err != nil {
		t.Fatal(err)
	}
	kill(t, node)
	if err := os.RemoveAll(filepath.Join(f.dir, "wiped")); err != nil {
		t.Fatal(err)
	}
	node = f.node("wiped", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1, Approval: true}).Join, "")
	start(t, node)
	var waiting api.List[api.Enrollment]
	poll(t, time.Minute, "the device waits for approval", func() error {
		err := f.get("/v1/enrollments", &waiting)
		if err == nil && len(waiting.Items) != 1 {
			err = fmt.Errorf("enrolments %v", waiting.Items)
		}
		return err
	})
	if w := waiting.Items[0]; w.Node != "wiped" || !w.Rejoin {
		t.Errorf("enrolment %+v; wanted wiped, marked as a rejoin", w)
	}
	tells := func(command string, exit int) {
		out, err := exec.CommandContext(t.Context(), node.Program, command, "--config", node.Args[2]).CombinedOutput()
		if got := exitOf(t, err); got != exit || !strings.Contains(string(out), "skerry approve wiped") {
			t.Errorf("skerry-edge %s: exit %d\n%s", command, got, out)
		}
	}
	tells("doctor", doctor.ExitApproval)
	tells("status", 0)
	if err := f.post("/v1/enrollments/"+waiting.Items[0].ID+"/approve", struct{}{}, nil); err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "the wiped node is back", func() error {
		if err := f.get("/v1/nodes/wiped", &after); err != nil {
			return err
		}
		if after.Presence != api.PresenceOnline || after.KeySHA256 == before.KeySHA256 {
			return errors.New("not yet: " + string(after.Presence))
		}
		return nil
	})
	f.ping("wiped")
	var history api.List[api.CommandRecord]
	if err := f.get("/v1/commands?node=wiped", &history); err != nil || len(history.Items) != 2 {
		t.Errorf("commands %v, error %v; wanted the one before the wipe and the one after it", history.Items, err)
	}
}
