package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestAFullDiskOfTheClusterLeavesCommandsAlone fills the disk under the cluster agent. Meanwhile the node stays online in
// the same session and answers; the agent says what is wrong; and when there is room again nothing is missing.
func TestAFullDiskOfTheClusterLeavesCommandsAlone(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("mounting a small disk needs root")
		}
		t.Skip("mounting a small disk needs root")
	}
	root := t.TempDir()
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=96m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f := fieldIn(t, root)
	node := f.node("n1", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "telemetry: {interval: 1s}\n")
	start(t, node)
	f.online("n1")
	ballast := filepath.Join(root, "ballast")
	leave(t, root, ballast, 3<<20) // below a twentieth of 96 MiB, enough for the registry and the journal
	f.trouble("telemetry is put off")
	session := f.epoch("n1")
	pass(t, 5*time.Second)
	for range 3 {
		f.ping("n1")
	}
	if e := f.epoch("n1"); e != session {
		t.Errorf("session %d became %d: the full disk cost the node its link", session, e)
	}
	var events api.List[api.EventRecord]
	if err := f.get("/v1/events", &events); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(events.Items, func(e api.EventRecord) bool { return e.Kind == "telemetry.put_off" && e.Class == api.ClassAlarm }) {
		t.Error("no alarm about telemetry that is put off")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	f.trouble("")
	poll(t, time.Minute, "nothing is missing", func() error {
		scrapes, err := f.samples(`skerry_edge_scrapes_total{node="n1"}`)
		if err != nil {
			return err
		}
		return unbroken([]time.Time{time.Now()}, scrapes)
	})
}

// trouble waits until one of the cluster agent's troubles begins with text; "" waits for none but that of this machine's
// clock, which may be as it is.
func (f *field) trouble(text string) {
	f.t.Helper()
	poll(f.t, time.Minute, fmt.Sprintf("trouble is %q", text), func() error {
		var st api.ClusterStatus
		if err := f.get("/v1/status", &st); err != nil {
			return err
		}
		st.Trouble = slices.DeleteFunc(st.Trouble, func(s string) bool { return strings.HasPrefix(s, "clock ") })
		if text == "" && len(st.Trouble) == 0 || text != "" && slices.ContainsFunc(st.Trouble, func(s string) bool { return strings.HasPrefix(s, text) }) {
			return nil
		}
		return fmt.Errorf("it is %q", st.Trouble)
	})
}

// epoch is the node's session.
func (f *field) epoch(name string) uint64 {
	f.t.Helper()
	var n api.Node
	if err := f.get("/v1/nodes/"+name, &n); err != nil {
		f.t.Fatal(err)
	}
	if n.Presence != api.PresenceOnline {
		f.t.Errorf("%s is %s", name, n.Presence)
	}
	return n.Epoch
}

// leave fills the disk of root with a file until so many bytes are free.
func leave(t *testing.T, root, path string, free int64) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(root, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, int64(st.Bavail)*st.Bsize-free), 0o600); err != nil {
		t.Fatal(err)
	}
}
