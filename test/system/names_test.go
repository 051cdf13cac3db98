package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestDevicesOfOneHostNameAllComeOnline has agents that name no id join with one token, as devices do that are all called
// raspberrypi. One that is wiped is a new node, and says which one that is; none disturbs another.
func TestDevicesOfOneHostNameAllComeOnline(t *testing.T) {
	t.Parallel()
	f := newField(t)
	token := f.join(api.TokenRequest{TTL: "1h", MaxUses: 3}).Join
	nameless := func(dir string) *Process {
		p := f.node(dir, token, "")
		p.Args = append(p.Args, "--set", "node=")
		return p
	}
	first, second := nameless("one"), nameless("two")
	start(t, first)
	before := f.nodes(1)
	start(t, second)
	after := f.nodes(2)
	for _, n := range after {
		if n.ID != before[0].ID && !strings.HasSuffix(n.ID, "-"+n.KeySHA256[:8]) {
			t.Errorf("node %s of key %s; wanted the host name with part of the key", n.ID, n.KeySHA256)
		}
		f.ping(n.ID)
	}
	kill(t, second)
	if err := os.RemoveAll(filepath.Join(f.dir, "two")); err != nil {
		t.Fatal(err)
	}
	second = nameless("two")
	start(t, second)
	var wiped api.Node
	poll(t, time.Minute, "the wiped device is a new node", func() error {
		var all api.List[api.Node]
		if err := f.get("/v1/nodes", &all); err != nil {
			return err
		}
		at := slices.IndexFunc(all.Items, func(n api.Node) bool {
			return n.Presence == api.PresenceOnline && !slices.ContainsFunc(after, func(old api.Node) bool { return old.ID == n.ID })
		})
		if at < 0 {
			return fmt.Errorf("nodes %v", all.Items)
		}
		wiped = all.Items[at]
		return nil
	})
	f.ping(before[0].ID)
	for command, want := range map[string]string{"status": "node         " + wiped.ID + " of cluster test", "doctor": "takes " + wiped.ID} {
		out, err := exec.CommandContext(t.Context(), second.Program, command, "--config", second.Args[2]).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("skerry-edge %s: %v; wanted %q in:\n%s", command, err, want, out)
		}
	}
	if said := tail(second.Log, 100); !strings.Contains(said, "skerry node remove "+before[0].ID) {
		t.Errorf("the wiped device does not say that its old node stays:\n%s", said)
	}
}

// nodes waits until want nodes are online, and no other is there.
func (f *field) nodes(want int) []api.Node {
	f.t.Helper()
	var all api.List[api.Node]
	poll(f.t, time.Minute, fmt.Sprintf("%d nodes are online", want), func() error {
		if err := f.get("/v1/nodes", &all); err != nil {
			return err
		}
		for _, n := range all.Items {
			if n.Presence != api.PresenceOnline {
				return errors.New(n.ID + " is " + string(n.Presence))
			}
		}
		if len(all.Items) != want {
			return fmt.Errorf("%d nodes", len(all.Items))
		}
		return nil
	})
	return all.Items
}

// TestWhoWantsTheIDOfANodeThatIsOnlineIsToldSo configures an id that another device has.
func TestWhoWantsTheIDOfANodeThatIsOnlineIsToldSo(t *testing.T) {
	t.Parallel()
	f := newField(t)
	token := f.join(api.TokenRequest{TTL: "1h", MaxUses: 2}).Join
	owner := f.node("pump", token, "")
	start(t, owner)
	f.online("pump")
	other := f.node("other", token, "")
	other.Args = append(other.Args, "--set", "node=pump")
	start(t, other)
	poll(t, time.Minute, "the person who decides sees who is there", func() error {
		var waiting api.List[api.Enrollment]
		if err := f.get("/v1/enrollments", &waiting); err != nil {
			return err
		}
		if len(waiting.Items) != 1 || !waiting.Items[0].Rejoin || waiting.Items[0].Presence != api.PresenceOnline {
			return fmt.Errorf("enrolments %+v", waiting.Items)
		}
		return nil
	})
	for _, command := range []string{"status", "doctor"} {
		args := []string{command, "--config", other.Args[2], "--set", "node=pump"}
		poll(t, time.Minute, "the device's "+command+" says who is there", func() error {
			out, _ := exec.CommandContext(t.Context(), other.Program, args...).CombinedOutput()
			if said := string(out); !strings.Contains(said, "node pump is there already") || !strings.Contains(said, "is online now") {
				return errors.New(said)
			}
			return nil
		})
	}
	f.ping("pump") // all the while
}
