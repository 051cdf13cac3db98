package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// small mounts a file system of 256 KiB.
func small(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small tmpfs: %v; run as root", err)
		}
		t.Skipf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestADirectoryThatCannotBeUsedIsNamedWithItsCure(t *testing.T) {
	good, full, readOnly, nobodys := t.TempDir(), small(t), small(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "somebody-else"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := unix.Mount("", readOnly, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir, seen, cure string
		exit, user      int
	}{
		{good, "", "", ExitOK, 0},
		{filepath.Join(good, "not", "there", "yet"), "", "", ExitOK, 0},
		{full, "no space left", "make room: df " + full, ExitState, 0},
		{readOnly, "read-only file system", "see dmesg", ExitState, 0},
		{filepath.Join(readOnly, "not", "there", "yet"), "read-only file system", "see dmesg", ExitState, 0},
		{nobodys, "permission denied", "run it as root", ExitState, 65534},
	} {
		var last Finding
		as(c.user, func() {
			last = Diagnose(context.Background(), &Patient{Dirs: []string{good, c.dir}, IdentityFault: errors.New("x"), Clock: at(noon())}, func(Finding) {})
			if c.exit == ExitOK {
				last = (&Patient{Dirs: []string{good, c.dir}}).state(context.Background())
			}
		})
		if c.user != 0 { // it may not use the good one either
			c.dir = good
		}
		if last.Exit != c.exit || !strings.Contains(last.Seen, c.seen) || !strings.Contains(last.Cure, c.cure) || !strings.Contains(last.Detail, c.dir) {
			t.Errorf("%s: %+v; wanted exit %d, %q and %q", c.dir, last, c.exit, c.seen, c.cure)
		}
	}
	if left, err := filepath.Glob(filepath.Join(good, ".*")); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// as runs do with the file system's permissions of a user (setfsuid(2)).
func as(user int, do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	set := func(id int) { _, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id), 0, 0) }
	set(user)
	defer set(os.Geteuid())
	do()
}

func TestAnIdentityThatThisUserMayNotReadIsNotThrownAway(t *testing.T) {
	f := (&Patient{IdentityFault: fmt.Errorf("read identity: %w", fs.ErrPermission)}).damaged(t.Context())
	if f.Exit != ExitCertificate || !strings.Contains(f.Cure, "run it as root") || strings.Contains(f.Cure, "remove") {
		t.Errorf("%+v", f)
	}
}

func TestAFaultOfTheConfigurationComesBeforeAll(t *testing.T) {
	p := &Patient{ConfigFault: errors.New("a: wanted b\nc: wanted d"), Clock: at(noon()), Dirs: []string{"/nowhere"}}
	v := examine(t, p)
	if f := v.last; f.Step != "configuration" || f.Exit != ExitConfiguration || f.Seen != "a: wanted b; c: wanted d" || len(v.steps) != 1 {
		t.Errorf("%+v after %v", f, v.steps)
	}
}
