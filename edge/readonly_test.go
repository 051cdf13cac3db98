package edge

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/edge/store"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// disk mounts a file system that can become read-only.
func disk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a tmpfs: %v; run as root", err)
		}
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// lifeOf runs an agent as a process until its status has want in it, and ends it by sig.
func lifeOf(t *testing.T, dir, runtime, join, want string, sig os.Signal) (log string) {
	t.Helper()
	args := []string{"--set", "node=pump-3", "--set", "dir=" + dir, "--set", "runtime_dir=" + runtime}
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"run", "--join", join}, args...)...)
	cmd.Env = append(os.Environ(), asDoor+"=1")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(2 * time.Minute); ; {
		if st, err := askStatus(t.Context(), runtime); err == nil && strings.Contains(st.Trouble+st.Cluster+st.Config, want) && st.Enrolled {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v\n%s", err, &said)
		case <-end:
			t.Fatalf("no status that says %s", want)
		case <-tick.C:
		}
	}
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil && sig == syscall.SIGTERM {
		t.Errorf("end: %v\n%s", err, &said)
	}
	return said.String()
}

// TestAnEnrolledNodeGoesOnWithoutFlash kills an agent, makes its directory read-only as a failing card does, and starts it again.
func TestAnEnrolledNodeGoesOnWithoutFlash(t *testing.T) {
	dir, runtime := disk(t), t.TempDir()
	join := (&enrolment.Service{}).Start(t).Join().String()
	lifeOf(t, dir, runtime, join, "applied", syscall.SIGKILL)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	said := lifeOf(t, dir, runtime, join, "applied", syscall.SIGTERM)
	if !strings.Contains(said, "state directory is read-only") || strings.Contains(said, "panic") {
		t.Errorf("said:\n%s", said)
	}
	if _, err := os.Stat(filepath.Join(runtime, "state", "state.db")); err != nil {
		t.Error(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	lifeOf(t, dir, runtime, join, "applied", syscall.SIGTERM)
	if _, err := os.Stat(filepath.Join(runtime, "state")); !os.IsNotExist(err) {
		t.Errorf("the copy outlived its use: %v", err)
	}
}

// TestAReadOnlyNodeKeepsWhatItDoesInMemoryAndSaysSo looks at what it is made of.
func TestAReadOnlyNodeKeepsWhatItDoesInMemoryAndSaysSo(t *testing.T) {
	a := builtWith(t, (&enrolment.Service{}).Start(t), func(a *Agent) { a.readOnly = "it is read-only" })
	a.tellReadOnly()
	if b := a.outbox.Backlog(); b.Events != 1 {
		t.Errorf("backlog %+v; wanted the alarm", b)
	}
	if _, err := os.Stat(filepath.Join(a.cfg.RuntimeDir, "outbox.hot")); !os.IsNotExist(err) {
		t.Errorf("the outbox of a read-only node has files: %v", err)
	}
}

// TestACopyOfTheStateIsMadeOnce: a second start in the same boot knows what the first one did.
func TestACopyOfTheStateIsMadeOnce(t *testing.T) {
	dir, spare := t.TempDir(), filepath.Join(t.TempDir(), "state")
	keep := func(dir, overlay string) {
		t.Helper()
		st, err := store.Open(dir, agent.BuildTime())
		if err == nil {
			err = st.SetOverlay([]byte(overlay))
		}
		if err == nil {
			err = st.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	keep(dir, "flash")
	for _, then := range []string{"memory", "memory still"} {
		if err := copyState(dir, spare); err != nil {
			t.Fatal(err)
		}
		_, overlay, err := store.Peek(spare)
		if want := map[string]string{"memory": "flash", "memory still": "memory"}[then]; err != nil || string(overlay) != want {
			t.Errorf("%q, %v; wanted %q", overlay, err, want)
		}
		keep(spare, then)
	}
	if err := copyState(filepath.Join(dir, "none"), filepath.Join(dir, "to")); err != nil {
		t.Errorf("without a state: %v", err)
	}
}
