package install

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// starting is a systemctl that starts what the unit says, as far as a test needs it.
const starting = `#!/bin/sh
unit=$2
case $1 in is-active | is-enabled) unit=$3 ;; esac
pid=/run/$unit.pid
case $1 in
is-enabled) [ -e /run/$unit.enabled ] ;;
enable) : >/run/$unit.enabled ;;
is-active) [ -e $pid ] && kill -0 "$(cat $pid)" 2>/dev/null ;;
restart)
	exec=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/$unit)
	mkdir -p -m 0700 /var/lib/${unit%.service} /run/${unit%.service}
	setsid sh -c "echo \$\$ >$pid; exec $exec" >/var/log/$unit.log 2>&1 </dev/null &
	;;
esac
`

func builtPrograms(t *testing.T) map[string][]byte {
	t.Helper()
	programs := map[string][]byte{}
	for name, file := range map[string]string{"skerry-edge:lite": "skerry-edge", "skerry-cluster": "skerry-cluster", "skerry": "skerry"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "bin", file))
		if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
			t.Skip("run make programs first")
		}
		if err != nil {
			t.Fatal(err)
		}
		programs[name] = raw
	}
	return programs
}

// TestFromNothingToOnline installs a cluster agent and a device with the shipped programs, without a network but the machine's own.
func TestFromNothingToOnline(t *testing.T) {
	t.Parallel()
	programs := builtPrograms(t)
	d := NewDepot(t)
	d.Release("1.2.3", programs)
	m := NewMachine(t, d.Handler())
	m.Write("/run/systemd/system/x", "", 0o644)
	m.Write("/usr/bin/systemctl", starting, 0o755)
	m.waits()
	t.Cleanup(func() {
		m.t = t
		for _, unit := range []string{"skerry-edge", "skerry-cluster"} {
			if t.Failed() {
				t.Logf("%s:\n%s", unit, m.Read("/var/log/"+unit+".service.log"))
			}
			m.Run(nil, "sh", "-c", "kill -9 $(cat /run/"+unit+".service.pid)")
		}
	})
	begun := time.Now()
	out, code := m.install(d, shells[0], []string{"SKERRY_ADVERTISE=127.0.0.1", "SKERRY_JOIN=", "INSTALL_SKERRY_WAIT=240"}, "cluster")
	wantRun(t, out, code, 0, "skerry-cluster 1.2.3 is online")
	cluster := time.Since(begun)
	out, code = m.Run([]string{"SKERRY_CONFIG=/var/lib/skerry-cluster/admin.yaml"}, "skerry", "token", "create")
	join := regexp.MustCompile(`skerry1\.[A-Za-z0-9_-]+`).FindString(out)
	if code != 0 || join == "" {
		t.Fatalf("token create: %d\n%s", code, out)
	}
	begun = time.Now()
	out, code = m.install(d, shells[2], []string{"SKERRY_JOIN=" + join, "INSTALL_SKERRY_WAIT=240"})
	wantRun(t, out, code, 0, "skerry-edge 1.2.3 is online")
	t.Logf("from sh install.sh to online: cluster agent %.1f s, device %.1f s", cluster.Seconds(), time.Since(begun).Seconds())
	out, code = m.Run([]string{"SKERRY_CONFIG=/var/lib/skerry-cluster/admin.yaml"}, "skerry", "get", "nodes")
	if code != 0 || !strings.Contains(out, "online") {
		t.Errorf("get nodes: %d\n%s", code, out)
	}
	before := m.Listing()
	out, code = m.install(d, shells[2], []string{"SKERRY_JOIN=" + join, "INSTALL_SKERRY_WAIT=240"})
	wantRun(t, out, code, 0, "nothing has changed: skerry-edge goes on", "is online")
	after := m.Listing()
	for _, path := range []string{"/usr/local/bin/skerry-edge ", "/etc/skerry/edge.yaml ", "/etc/systemd/system/skerry-edge.service "} {
		if one, two := lineOf(before, path), lineOf(after, path); one == "" || one != two {
			t.Errorf("%q became %q", one, two)
		}
	}
	out, code = m.Run(nil, "/usr/local/bin/skerry-uninstall", "--purge")
	wantRun(t, out, code, 0, "has left cluster ", "removed /var/lib/skerry-edge")
}

func lineOf(listing []string, path string) string {
	for _, line := range listing {
		if strings.Contains(line, path) {
			return line
		}
	}
	return ""
}

// TestABundleInstallsWithoutANetwork has no server, and in the last case no tool that checks signatures.
func TestABundleInstallsWithoutANetwork(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, nil)
	m.Remove("curl", "wget", "minisign", "signify-openbsd")
	m.Do(func() error {
		if err := os.CopyFS(m.Path("/root/depot"), os.DirFS(d.Dir)); err != nil {
			return err
		}
		return nil
	})
	out, code := m.Run(nil, "sh", "-c", "cd /root/depot && ip link set lo down && tar -cf ../b.tar * && gzip -k ../b.tar && zstd -q ../b.tar")
	if code != 0 {
		t.Fatal(out)
	}
	for _, c := range []struct {
		shell  []string
		bundle string
	}{{shells[0], "/root/depot"}, {shells[0], "/root/b.tar.zst"}, {shells[2], "/root/b.tar.gz"}, {shells[1], "/root/b.tar"}} {
		if c.shell[0] == "bash" {
			m.Remove("openssl")
		}
		out, code := m.install(d, c.shell, []string{"SKERRY_URL=", "INSTALL_SKERRY_OFFLINE=" + c.bundle})
		wantRun(t, out, code, 0, "wrote /usr/local/bin/skerry-edge", "signature checked with")
		if out, code := m.Run(nil, "/usr/local/bin/skerry-uninstall", "--purge"); code != 0 {
			t.Errorf("uninstall: %d\n%s", code, out)
		}
		before := m.Listing()
		out, code = m.install(d, c.shell, []string{"SKERRY_URL=", "INSTALL_SKERRY_OFFLINE=" + c.bundle, "SKERRY_VERSION=9.9.9"})
		wantRun(t, out, code, 1, "has no 9.9.9/manifest.json")
		m.Same(before)
	}
}

// TestTheBuildIsPickedForTheMachine plays machines by uname and /proc/cpuinfo.
func TestTheBuildIsPickedForTheMachine(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	m.Write("/run/cpuinfo", "x", 0o644)
	m.Bind("/run/cpuinfo", "/proc/cpuinfo")
	for _, c := range []struct {
		machine, cpu string
		bits, little string // what is in /bin/sh's header
		want         string
	}{
		{"x86_64", "flags : fpu sse2", `\002`, `\001`, "this is linux-amd64"},
		{"x86_64", "flags : fpu sse2", `\001`, `\001`, "32-bit userland on a 64-bit kernel"},
		{"aarch64", "Features : fp asimd", `\002`, `\001`, "this is linux-arm64"},
		{"aarch64", "Features : fp asimd", `\001`, `\001`, "this is linux-armv7"},
		{"armv7l", "Features : half thumb vfp vfpv3 vfpv3d16 tls", `\001`, `\001`, "this is linux-armv7"},
		{"armv7l", "Features : half thumb vfp", `\001`, `\001`, "this is linux-armv6"},
		{"armv7l", "Features : half thumb", `\001`, `\001`, "this processor (armv7l) has no floating point unit"},
		{"armv6l", "Features : half thumb fastmult vfp edsp java tls", `\001`, `\001`, "this is linux-armv6"},
		{"armv5tel", "Features : swp half", `\001`, `\001`, "no programs are built for armv5tel"},
		{"riscv64", "isa : rv64imafdc", `\002`, `\001`, "this is linux-riscv64"},
		{"mips", "system type : MT7621", `\001`, `\001`, "this is linux-mipsle"},
		{"mips", "system type : AR9344", `\001`, `\002`, "big-endian"},
		{"mips64", "system type : Octeon", `\002`, `\001`, "64-bit MIPS userland"},
		{"i686", "flags : fpu mmx sse sse2", `\001`, `\001`, "this is linux-386"},
		{"i586", "flags : fpu mmx", `\001`, `\001`, "this processor (i586) has no SSE2"},
		{"s390x", "", `\002`, `\002`, "no programs are built for s390x"},
	} {
		m.Write("/usr/bin/uname", "#!/bin/sh\ncase $1 in -s) echo Linux ;; -m) echo "+c.machine+" ;; esac\n", 0o755)
		m.Write("/usr/bin/dd", "#!/bin/sh\ncase $3 in skip=4) printf '"+c.bits+"' ;; skip=5) printf '"+c.little+"' ;; esac\n", 0o755)
		m.Do(func() error { return os.WriteFile(m.Path("/run/cpuinfo"), []byte(c.cpu+"\n"), 0o644) }) // the same file, as it is mounted
		out, _ := m.install(d, shells[0], []string{"SKERRY_CHANNEL=none"})
		if !strings.Contains(out, c.want) {
			t.Errorf("%s, %q: it did not say %q:\n%s", c.machine, c.cpu, c.want, out)
		}
	}
}

// TestFullIsPickedWhereThereIsRoom has a release with both, and says why.
func TestFullIsPickedWhereThereIsRoom(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	fakeOf := func(variant string) []byte {
		return []byte(strings.NewReplacer("@NAME@", "skerry-edge", "@VERSION@", "1.2.3").Replace(fake) + variant)
	}
	d.Release("1.2.3", map[string][]byte{"skerry-edge:lite": fakeOf("lite"), "skerry-edge:full": fakeOf("full")})
	for _, c := range []struct {
		memory, flash, env string
		want, is           string
	}{
		{"MemTotal: 1024000 kB", "size=100m", "", "skerry-edge full: 1000 MiB of memory and 100 MiB free", "full"},
		{"MemTotal: 128000 kB", "size=100m", "", "skerry-edge lite: 125 MiB of memory, and full wants 256", "lite"},
		{"MemTotal: 1024000 kB", "size=30m", "", "skerry-edge lite: 30 MiB are free for /usr/local/bin, and full wants 64", "lite"},
		{"MemTotal: 128000 kB", "size=100m", "full", "skerry-edge full, as INSTALL_SKERRY_VARIANT says", "full"},
	} {
		m := NewMachine(t, d.Handler())
		m.Write("/run/meminfo", c.memory+"\n", 0o644)
		m.Bind("/run/meminfo", "/proc/meminfo")
		m.Mount("/usr/local/bin", c.flash, 0)
		out, code := m.install(d, shells[0], []string{"INSTALL_SKERRY_VARIANT=" + c.env})
		wantRun(t, out, code, 0, c.want)
		if got := m.Read("/usr/local/bin/skerry-edge"); !strings.HasSuffix(got, c.is) {
			t.Errorf("%s, %s: %s was wanted; it ends in %q", c.memory, c.flash, c.is, got[max(0, len(got)-10):])
		}
	}
}
