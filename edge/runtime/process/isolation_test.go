package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/edge/workload"
)

func (r *rig) wants(c workload.Container, parts ...string) {
	r.t.Helper()
	_, text := r.run(c)
	for _, p := range parts {
		if !strings.Contains(text, p) {
			r.t.Errorf("%s printed %q; wanted %q in it", c.Name, text, p)
		}
	}
}

func TestWhoAProgramIs(t *testing.T) {
	r := newRig(t)
	c := r.container("root", "who")
	c.Hostname = "rock"
	c.Dir = "/made/for/it"
	r.wants(c, "uid 0 gid 0", "host rock", "dir /made/for/it", "ppid 1")

	c = r.container("number", "who")
	c.Security.User, c.Security.Group, c.Security.Groups = new(int64(12345)), new(int64(54321)), []int64{7}
	r.wants(c, "uid 12345 gid 54321 groups [7]")

	r.images.config.User = "ann"
	r.wants(r.container("image", "who"), "uid 1000 gid 1000 groups [20]")
	r.wants(r.container("home", "env"), "HOME=/home/ann", "PATH=/usr/local/sbin")
}

func TestAProgramHasOnlyTheRightsOfAContainer(t *testing.T) {
	r := newRig(t)
	r.wants(r.container("root", "status"), "CapBnd:\t00000000a00425fb", "CapEff:\t00000000a00425fb", "CapInh:\t0000000000000000",
		"NoNewPrivs:\t1", "Seccomp:\t2")
	c := r.container("user", "status")
	c.Security.User = new(int64(1000))
	r.wants(c, "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2")
	c = r.container("some", "status")
	c.Security.Drop, c.Security.Add = []string{"ALL"}, []string{"NET_ADMIN"}
	r.wants(c, "CapEff:\t0000000000001000", "NoNewPrivs:\t1")
	c = r.container("all", "status")
	c.Security.Privileged = true
	r.wants(c, "NoNewPrivs:\t0", "Seccomp:\t0")
}

func TestSystemCallsOfTheKernelAreRefused(t *testing.T) {
	r := newRig(t)
	// 1 is EPERM, 38 ENOSYS, upon which programs try an older call.
	r.wants(r.container("a", "calls"), "mount 1\n", "unshare 1\n", "setns 1\n", "keyctl 1\n", "getpid 0\n", "clone3 38\n",
		"clone_newuser 1\n", "io_uring_setup 1\n")
	c := r.container("admin", "calls")
	c.Security.Add = []string{"SYS_ADMIN"}
	r.wants(c, "mount 14\n", "unshare 0\n", "keyctl 1\n")
}

func TestTheNodesKernelCannotBeReached(t *testing.T) {
	r := newRig(t)
	for _, file := range []string{"/proc/sys/kernel/hostname", "/sys/kernel/profiling", "/proc/sysrq-trigger", "/proc/1/root/etc/passwd"} {
		c := r.container("w"+strings.ReplaceAll(file[1:], "/", "-"), "write", file, "x")
		if o, text := r.run(c); o.Exit != 1 {
			t.Errorf("wrote %s: %q", file, text)
		}
	}
	for _, file := range []string{"/proc/1/environ", "/proc/1/root/payload", "/proc/1/fd/3"} {
		c := r.container("r"+strings.ReplaceAll(file[1:], "/", "-"), "read", file)
		if o, text := r.run(c); o.Exit != 1 {
			t.Errorf("read %s: %q", file, text)
		}
	}
	r.wants(r.container("mknod", "mknod", "/tmp/mem"), "operation not permitted")
	c := r.container("mknod2", "mknod", "/tmp/mem")
	c.Security.Add = []string{"MKNOD"}
	r.wants(c, "permission denied")
}

func TestSignalsFromInsideDoNotReachTheSupervisor(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "serve")
	r.start(c)
	for _, signal := range []string{"1", "2", "3", "4", "6", "8", "9", "11", "13", "15", "19", "34", "64"} {
		if exit, out := r.exec(c.ID, "/payload", "kill", "1", signal); exit != 0 {
			t.Errorf("signal %s: exit %d, %q", signal, exit, out)
		}
	}
	if exit, out := r.exec(c.ID, "/payload", "say", "alive"); exit != 0 || out != "alive\n" {
		t.Errorf("exit %d, %q", exit, out)
	}
}

func TestMountsAreWhereTheyWereWanted(t *testing.T) {
	r := newRig(t)
	shared := filepath.Join(r.dir, "shared")
	if err := os.MkdirAll(filepath.Join(shared, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(shared, "file"), "from the node", 0o644)
	c := r.container("read", "read", "/some/where/file")
	c.Mounts = []workload.Mount{{Source: shared, Target: "/some/where"}}
	r.wants(c, "from the node")
	c = r.container("file", "read", "/one")
	c.Mounts = []workload.Mount{{Source: filepath.Join(shared, "file"), Target: "/one"}}
	r.wants(c, "from the node")
	c = r.container("write", "write", "/data/new", "by the container")
	c.Mounts = []workload.Mount{{Source: shared, Target: "/data"}}
	r.run(c)
	if raw, err := os.ReadFile(filepath.Join(shared, "new")); err != nil || string(raw) != "by the container" {
		t.Errorf("%q, %v", raw, err)
	}
	c = r.container("readonly", "write", "/data/new", "again")
	c.Mounts = []workload.Mount{{Source: shared, Target: "/data", ReadOnly: true}}
	r.wants(c, "read-only file system")
	c = r.container("roroot", "write", "/new", "x")
	c.Security.ReadOnlyRoot = true
	r.wants(c, "read-only file system")
	c = r.container("rorootvolume", "write", "/data/there", "x")
	c.Security.ReadOnlyRoot = true
	c.Mounts = []workload.Mount{{Source: shared, Target: "/data"}}
	if o, text := r.run(c); o.Exit != 0 {
		t.Errorf("a volume of a read-only root: %q", text)
	}
}

func TestLinksOfAnImageLeadNowhereElse(t *testing.T) {
	r := newRig(t)
	image := r.images.lower[0]
	outside := filepath.Join(r.dir, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 40)
	links := map[string]string{"absolute": outside, "relative": up + outside[1:], "kernel": "/proc/self/root", "dev": outside, "old": "/..",
		"cwd": "/proc/self/cwd/" + up, "fd": "/proc/self/fd/3"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(image, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("loop", filepath.Join(image, "loop")); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(r.dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	before := r.tree()
	for name := range links {
		c := r.container(name, "say", "ran")
		c.Mounts = []workload.Mount{{Source: source, Target: "/" + name + "/made"}}
		if err := r.Start(t.Context(), c); err != nil {
			t.Log(err) // no place to mount it at is as good
		}
	}
	c := r.container("loop", "say", "ran")
	c.Mounts = []workload.Mount{{Source: source, Target: "/loop/made"}}
	if err := r.Start(t.Context(), c); err == nil {
		t.Error("a loop of links was followed")
	}
	if after := r.tree(); after != before {
		t.Errorf("the node's folders were %s and are %s", before, after)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("made outside: %v, %v", entries, err)
	}
}

func TestASourceDoesNotLeaveWhereItIsWithin(t *testing.T) {
	r := newRig(t)
	volume := filepath.Join(r.dir, "volume")
	if err := os.MkdirAll(filepath.Join(volume, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(volume, "real/file"), "inside", 0o644)
	for name, target := range map[string]string{"link": "/etc", "good": "/real"} {
		if err := os.Symlink(target, filepath.Join(volume, name)); err != nil {
			t.Fatal(err)
		}
	}
	c := r.container("good", "read", "/data/file")
	c.Mounts = []workload.Mount{{Source: filepath.Join(volume, "good"), Within: volume, Target: "/data"}}
	r.wants(c, "inside")
	for name, source := range map[string]string{"link": filepath.Join(volume, "link"), "up": filepath.Dir(volume), "other": "/etc"} {
		c := r.container(name, "list", "/data")
		c.Mounts = []workload.Mount{{Source: source, Within: volume, Target: "/data"}}
		if err := r.Start(t.Context(), c); err == nil {
			t.Errorf("%s: %s was mounted", name, source)
		}
	}
}

// tree lists what is on the node where a link of the test could lead, but for the containers' own folders and logs.
func (r *rig) tree() string {
	r.t.Helper()
	var out []string
	for _, dir := range []string{"/", r.dir, filepath.Join(r.dir, "image"), filepath.Join(r.dir, "outside"), filepath.Join(r.dir, "source")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "containers" && e.Name() != "logs" && (dir != "/" || e.Name() == "made") { // others make theirs in the root
				out = append(out, e.Name())
			}
		}
	}
	return strings.Join(out, " ")
}
