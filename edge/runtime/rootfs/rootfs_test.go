package rootfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be a process in a mount namespace of its own.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "alone" {
		if err := mountAlone(os.Args[2]); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func files(t *testing.T, dir string, all map[string]string) {
	t.Helper()
	for name, text := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("wanted root")
		}
		t.Skip("wanted root")
	}
}

func TestACopyShowsWhatAnOverlayWould(t *testing.T) {
	root(t)
	dir := t.TempDir()
	low, high, upper, mnt := filepath.Join(dir, "low"), filepath.Join(dir, "high"), filepath.Join(dir, "upper"), filepath.Join(dir, "mnt")
	for _, d := range []string{upper, mnt} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files(t, low, map[string]string{"kept": "1", "removed": "1", "gone/deep": "1", "hidden/old": "1", "file-to-folder": "1", "folder-to-file/x": "1"})
	files(t, high, map[string]string{"new": "2", "hidden/new": "2", "file-to-folder/x": "2", "folder-to-file": "2"})
	if err := os.Symlink("/etc/passwd", filepath.Join(high, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"removed", "gone"} {
		if err := unix.Mknod(filepath.Join(high, name), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(filepath.Join(high, "hidden"), opaque, []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(filepath.Join(high, "new"), 12, 34); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(high, "new"), os.ModeSetuid|0o751); err != nil {
		t.Fatal(err)
	}
	for _, layer := range []string{low, high} {
		if err := copyLayer(layer, upper); err != nil {
			t.Fatal(err)
		}
	}
	copied := listing(t, upper)
	if err := unix.Mount("overlay", mnt, "overlay", unix.MS_RDONLY, "lowerdir="+high+":"+low); err != nil {
		t.Skip("no overlay here to compare with: ", err)
	}
	defer func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil { // a process that is just being started may hold it too
			t.Error(err)
		}
	}()
	if want := listing(t, mnt); copied != want {
		t.Errorf("copied:\n%s\noverlay:\n%s", copied, want)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("no owner")
		}
		rel, err := filepath.Rel(dir, path)
		out.WriteString(rel + " " + info.Mode().String() + " " + string(rune('0'+st.Uid)) + string(rune('0'+st.Gid)))
		if info.Mode().IsRegular() {
			raw, err := os.ReadFile(path)
			out.WriteString(" " + string(raw))
			if err != nil {
				return err
			}
		}
		out.WriteByte('\n')
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWalkStaysBeneathItsRoot(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, map[string]string{"outside": "o", "root/a/file": "f", "root/b/file": "g"})
	for name, target := range map[string]string{"a/abs": "/b", "a/up": "../../../../b", "a/out": "../../outside", "a/loop": "loop", "a/dot": ".././b/."} {
		if err := os.Symlink(target, filepath.Join(dir, "root", name)); err != nil {
			t.Fatal(err)
		}
	}
	top, err := openRoot(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer top.close()
	for p, want := range map[string]string{"/a/abs/file": "b/file", "a/up/file": "b/file", "a/dot/file": "b/file", "../../../b/file": "b/file",
		"/": ".", "a/../..//b": "b", "a/out": "", "a/loop": "", "a/file/x": "", "none": ""} {
		f, err := walk(top, p, nil)
		if want == "" {
			if err == nil {
				t.Errorf("%s: found", p)
				f.close()
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		got, err := readlink(f.path())
		f.close()
		if err != nil || got != filepath.Join(dir, "root", want) {
			t.Errorf("%s: %s, %v; wanted %s", p, got, err, want)
		}
	}
	f, err := walk(top, "/a/up/../new/deep/file", makeFile)
	if err != nil {
		t.Fatal(err)
	}
	f.close()
	if _, err := os.Stat(filepath.Join(dir, "root/new/deep/file")); err != nil {
		t.Error(err)
	}
}

// FuzzWalk makes a small tree with a link of any target and walks any path: nothing outside is found or made.
func FuzzWalk(f *testing.F) {
	f.Add("../../outside", "link/x")
	f.Add("/..", "link/../link/y")
	f.Fuzz(func(t *testing.T, target, p string) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "root"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, "root", "link")); err != nil {
			return // no such name
		}
		top, err := openRoot(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		defer top.close()
		if found, err := walk(top, p, makeDirs); err == nil {
			got, err := readlink(found.path())
			found.close()
			if in := filepath.Join(dir, "root"); err != nil || got != in && !strings.HasPrefix(got, in+"/") {
				t.Fatalf("%q with a link to %q led to %s, %v", p, target, got, err)
			}
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Fatalf("made %v outside, %v", entries, err)
		}
	})
}

func TestAnOlderKernelsMountIsReadOnlyToo(t *testing.T) {
	root(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{"source/file": "x"})
	if err := os.Mkdir(filepath.Join(dir, "target"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "alone", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// mountAlone mounts as on a kernel before 5.12, and tries to write.
func mountAlone(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	target := filepath.Join(dir, "target")
	dst, err := openRoot(target)
	if err != nil {
		return err
	}
	if err := placeAlone(filepath.Join(dir, "source"), dst, Mount{ReadOnly: true}); err != nil {
		return err
	}
	if raw, err := os.ReadFile(filepath.Join(target, "file")); err != nil || string(raw) != "x" {
		return errors.Join(err, errors.New("the source is not shown"))
	}
	if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		return errors.Join(err, errors.New("it can be written"))
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(target, &fs); err != nil || fs.Flags&unix.MS_NODEV == 0 || fs.Flags&unix.MS_NOSUID == 0 {
		return errors.Join(err, errors.New("devices or set-user-ids work in it"))
	}
	return nil
}
