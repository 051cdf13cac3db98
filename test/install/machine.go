// Package install runs install.sh on machines that are views of this one: a network and mounts of their own, the root an overlay over /, whose
// upper layer is all that changes. Only a local release server is there. It takes root, and lists what a run left behind, file by file.
package install

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Machine is one. Its methods are called by one goroutine.
type Machine struct {
	t     *testing.T
	dir   string // overlay's parts
	root  string
	work  chan func() // run on the thread that has the namespaces
	watch []string    // directories besides the upper layer that Listing looks into
	first int         // process of it, outside; 0: none was booted
	URL   string      // of its release server
}

// NewMachine starts one with the release server that serves handler on its loopback device; nil: there is no network but that.
func NewMachine(t *testing.T, handler http.Handler) *Machine {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("this test takes root, for namespaces and mounts")
		}
		t.Skip("this test takes root, for namespaces and mounts")
	}
	dir, err := os.MkdirTemp("", "skerry-machine-") // a name without the commas that mount's options have
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &Machine{t: t, dir: dir, work: make(chan func())}
	m.root = filepath.Join(m.dir, "fs", "root")
	ended := make(chan struct{})
	begun := make(chan error, 1)
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and never unlocked: the thread ends, and its namespaces with it
		begun <- m.begin()
		for f := range m.work {
			f()
		}
		_ = unix.Unmount(filepath.Join(m.dir, "fs"), unix.MNT_DETACH)
	}()
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(m.work); <-ended })
	if handler != nil {
		m.serve(handler)
	}
	m.Write("/usr/bin/sleep", "#!/bin/sh\nexit 0\n", 0o755) // waits are counted, not waited for
	// A directory of the layer below is copied when something in it comes and goes: done now, it is not taken for a change.
	for _, dir := range []string{"/etc/skerry", "/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/etc/systemd/system", "/etc/init.d", "/etc/logrotate.d", "/var/lib", "/root"} {
		m.Do(func() error {
			if err := os.MkdirAll(m.Path(dir), 0o755); err != nil {
				return err
			}
			return os.Chmod(m.Path(dir), 0o755)
		})
	}
	return m
}

func (m *Machine) begin() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	fsDir := filepath.Join(m.dir, "fs")
	if err := os.Mkdir(fsDir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", fsDir, "tmpfs", 0, "size=256m"); err != nil {
		return err
	}
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(fsDir, d), 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", fsDir, fsDir)
	if err := unix.Mount("overlay", m.root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	for _, d := range []string{"/run", "/tmp", "/etc/skerry", "/var/lib"} {
		if err := os.MkdirAll(m.root+d, 0o755); err != nil {
			return err
		}
	}
	for _, mount := range []struct{ source, target, kind string }{{"proc", "/proc", "proc"}, {"tmpfs", "/run", "tmpfs"}, {"tmpfs", "/tmp", "tmpfs"}} {
		if err := unix.Mount(mount.source, m.root+mount.target, mount.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", mount.target, err)
		}
	}
	if err := unix.Mount("/dev", m.root+"/dev", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	m.watch = []string{"/run", "/tmp"}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link: %w: %s", err, out)
	}
	return nil
}

// Do calls f within the machine's namespaces and fails the test with its error.
func (m *Machine) Do(f func() error) {
	m.t.Helper()
	done := make(chan error, 1)
	m.work <- func() { done <- f() }
	if err := <-done; err != nil {
		m.t.Fatal(err)
	}
}

// Listen opens a port within the machine.
func (m *Machine) Listen(address string) net.Listener {
	m.t.Helper()
	var ln net.Listener
	m.Do(func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	})
	return ln
}

func (m *Machine) serve(handler http.Handler) {
	ln := m.Listen("127.0.0.1:0")
	srv := &http.Server{Handler: handler}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	m.t.Cleanup(func() { _ = srv.Close(); <-ended })
	m.URL = "http://" + ln.Addr().String()
}

// Path is where a path of the machine is outside; only its own thread sees what is there.
func (m *Machine) Path(path string) string { return m.root + path }

// Write makes a file.
func (m *Machine) Write(path, content string, mode os.FileMode) {
	m.t.Helper()
	m.Do(func() error {
		if err := os.MkdirAll(filepath.Dir(m.Path(path)), 0o755); err != nil {
			return err
		}
		if err := os.Remove(m.Path(path)); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.WriteFile(m.Path(path), []byte(content), mode); err != nil {
			return err
		}
		return os.Chmod(m.Path(path), mode)
	})
}

// Read returns a file's content, and "" when there is none.
func (m *Machine) Read(path string) string {
	m.t.Helper()
	var raw []byte
	m.Do(func() (err error) {
		if raw, err = os.ReadFile(m.Path(path)); os.IsNotExist(err) {
			return nil
		}
		return err
	})
	return string(raw)
}

// Remove removes files, wherever in the usual directories a program of that name is.
func (m *Machine) Remove(programs ...string) {
	m.t.Helper()
	m.Do(func() error {
		for _, p := range programs {
			for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/local/bin/", "/sbin/", "/usr/sbin/"} {
				if err := os.Remove(m.Path(dir + p)); err != nil && !os.IsNotExist(err) {
					return err
				}
			}
		}
		return nil
	})
}

// Mount puts a small file system at path, perhaps one that cannot be written to.
func (m *Machine) Mount(path, options string, flags uintptr) {
	m.t.Helper()
	m.watch = append(m.watch, path)
	m.Do(func() error {
		if err := os.MkdirAll(m.Path(path), 0o755); err != nil {
			return err
		}
		return unix.Mount("tmpfs", m.Path(path), "tmpfs", flags, options)
	})
}

// Bind puts a file over another.
func (m *Machine) Bind(from, to string) {
	m.t.Helper()
	m.Do(func() error { return unix.Mount(m.Path(from), m.Path(to), "", unix.MS_BIND, "") })
}

// Run runs a program inside with exactly these variables, PATH apart, and returns what it printed and its exit code.
func (m *Machine) Run(env []string, argv ...string) (string, int) {
	m.t.Helper()
	var out bytes.Buffer
	code := 0
	m.Do(func() error {
		cmd := exec.CommandContext(context.WithoutCancel(m.t.Context()), "/usr/bin/env", append([]string{"-C", "/"}, argv...)...)
		cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Dir = "/"
		if m.first == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
		} else {
			enter := []string{"-t", strconv.Itoa(m.first), "-m", "-p", "-u", "-i", "-C", "-r", "--wd=/"}
			cmd.Path, cmd.Args = "/usr/bin/nsenter", append(append([]string{"nsenter"}, enter...), cmd.Args...)
		}
		err := cmd.Run()
		if _, ok := err.(*exec.ExitError); err != nil && !ok {
			return err
		}
		code = cmd.ProcessState.ExitCode()
		return nil
	})
	return out.String(), code
}
