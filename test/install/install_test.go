package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const joinString = "skerry1.eyJl_nRwb-ludHMiOlt9"

// shells are those that install.sh has to do with; the last two are alone: busybox has its own tar, wget, sha256sum and the rest.
var shells = [][]string{{"dash"}, {"bash", "--posix"}, {"busybox", "ash"}}

// withSystemd puts a systemctl there that records its calls and has the service come online when it is started.
func withSystemd(m *Machine) {
	m.Write("/run/systemd/system/x", "", 0o644)
	m.Write("/usr/bin/systemctl", `#!/bin/sh
case $1 in
is-enabled) [ -e /run/enabled ] && exit 0 || exit 1 ;;
is-active) [ -e /run/online ] && exit 0 || exit 3 ;;
esac
echo "$*" >>/run/calls
case $1 in
enable) : >/run/enabled ;;
restart) [ -e /run/broken ] || : >/run/online ;;
disable) rm -f /run/online /run/enabled ;;
esac
exit 0
`, 0o755)
}

// install runs install.sh in a shell.
func (m *Machine) install(d *Depot, shell []string, env []string, args ...string) (string, int) {
	m.t.Helper()
	m.Write("/root/install.sh", d.Script, 0o644)
	argv := append(append([]string{}, shell...), append([]string{"/root/install.sh"}, args...)...)
	return m.Run(append([]string{"SKERRY_URL=" + m.URL, "SKERRY_JOIN=" + joinString}, env...), argv...)
}

func wantRun(t *testing.T, out string, code, wantCode int, want ...string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("exit code %d; wanted %d\n%s", code, wantCode, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("it did not say %q:\n%s", w, out)
		}
	}
}

func TestEveryShellInstallsAndASecondRunChangesNothing(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for _, shell := range shells {
		t.Run(shell[0], func(t *testing.T) {
			m := NewMachine(t, d.Handler())
			withSystemd(m)
			out, code := m.install(d, shell, nil)
			wantRun(t, out, code, 0, "version 1.2.3, signature checked with openssl", "skerry-edge 1.2.3 is online")
			if calls := m.Read("/run/calls"); calls != "daemon-reload\nenable skerry-edge.service\nrestart skerry-edge.service\n" {
				t.Errorf("systemctl was called with\n%s", calls)
			}
			if got := m.Read("/etc/skerry/edge.yaml"); !strings.Contains(got, "\njoin: \"@/etc/skerry/edge.join\"\n") {
				t.Errorf("edge.yaml is\n%s", got)
			}
			if got := m.Read("/etc/skerry/edge.join"); got != joinString+"\n" {
				t.Errorf("edge.join is %q", got)
			}
			for path, mode := range map[string]string{"/etc/skerry/edge.join": "-rw-------", "/etc/skerry/edge.yaml": "-rw-r--r--", "/usr/local/bin/skerry-edge": "-rwxr-xr-x",
				"/usr/local/bin/skerry-uninstall": "-rwxr-xr-x", "/etc/systemd/system/skerry-edge.service": "-rw-r--r--"} {
				m.wantMode(path, mode)
			}
			before := m.Listing()
			out, code = m.install(d, shell, nil)
			wantRun(t, out, code, 0, "is there already", "nothing has changed: skerry-edge goes on", "is online")
			m.Same(before)
		})
	}
}

func (m *Machine) wantMode(path, want string) {
	m.t.Helper()
	var got string
	m.Do(func() error {
		st, err := os.Stat(m.Path(path))
		if err == nil {
			got = st.Mode().String()
		}
		return err
	})
	if got != want {
		m.t.Errorf("%s has mode %s; wanted %s", path, got, want)
	}
}

// TestTheSmallerArchiveIsTakenWhereItCanBe has a server that holds but one of the two, and a machine without xz.
func TestTheSmallerArchiveIsTakenWhereItCanBe(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Small = true
	d.Release("1.2.3", nil)
	large := filepath.Join(d.Dir, "1.2.3", "skerry-edge_1.2.3_linux-amd64_lite.tar.gz")
	small := strings.TrimSuffix(large, ".gz") + ".xz"
	for _, c := range []struct {
		name, gone string
		xz         string // "": as it is
		exit       int
		says       string
	}{
		{"only the small one", large, "", 0, "skerry-edge 1.2.3 is online"},
		{"only the large one", small, "", 0, "skerry-edge 1.2.3 is online"},
		{"only the small one and no xz", large, "none", 1, "cannot fetch"},
		{"both, and an xz that has too little memory", "", "poor", 0, "xz: Memory usage limit reached); skerry-edge_1.2.3_linux-amd64_lite.tar.gz is taken"},
		{"only the small one, and an xz that has too little memory", large, "poor", 1, "cannot fetch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.gone != "" {
				away(t, c.gone)
			}
			for i, shell := range shells {
				m := NewMachine(t, d.Handler())
				withSystemd(m)
				switch c.xz {
				case "none":
					m.Remove("xz")
				case "poor":
					m.Write("/usr/bin/xz", "#!/bin/sh\necho 'xz: Memory usage limit reached' >&2\nexit 1\n", 0o755)
				}
				out, code := m.install(d, shell, nil)
				wantRun(t, out, code, c.exit, c.says)
				if c.exit == 0 && strings.Contains(out, "nothing was installed") {
					t.Errorf("of what it goes on without it says that nothing was installed:\n%s", out)
				}
				if i == 0 && c.xz != "" {
					break // one shell shows it, and busybox has an xz of its own
				}
			}
		})
	}
}

// away takes a file off the server until the test ends.
func away(t *testing.T, file string) {
	t.Helper()
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Rename(file+".away", file); err != nil {
			t.Error(err)
		}
	})
}

func TestANewVersionUpgradesAndKeepsTheConfiguration(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	out, code := m.install(d, shells[0], nil)
	wantRun(t, out, code, 0)
	m.Write("/etc/skerry/edge.yaml", "mine: 1\n", 0o600)
	d.Release("1.10.0", nil)
	out, code = m.install(d, shells[0], nil)
	wantRun(t, out, code, 0, "wrote /usr/local/bin/skerry-edge", "/etc/skerry/edge.yaml stays as it is", "skerry-edge 1.10.0 is online")
	if got := m.Read("/etc/skerry/edge.yaml"); got != "mine: 1\n" {
		t.Errorf("the configuration became %q", got)
	}
	if got := m.Read("/etc/skerry/edge.yaml.new"); !strings.Contains(got, "defaults of 1.10.0") {
		t.Errorf("beside it is %q", got)
	}
	if calls := m.Read("/run/calls"); strings.Count(calls, "restart") != 2 {
		t.Errorf("systemctl was called with\n%s", calls)
	}
	before := m.Listing()
	out, code = m.install(d, shells[0], nil)
	wantRun(t, out, code, 0, "nothing has changed")
	m.Same(before)

	// Backwards only when it was asked for.
	d.write("channel/stable", []byte("1.2.3\n"))
	out, code = m.install(d, shells[0], nil)
	wantRun(t, out, code, 1, "channel stable is at 1.2.3, and this script is of 1.10.0: something is held back")
	d.Script = strings.Replace(d.Script, "release_version='1.10.0'", "release_version='1.2.3'", 1)
	m.Write("/root/install.sh", d.Script, 0o644)
	before = m.Listing()
	out, code = m.install(d, shells[0], nil)
	wantRun(t, out, code, 1, "skerry-edge 1.10.0 is there, and channel stable is at 1.2.3, which is older")
	m.Same(before)
	out, code = m.install(d, shells[0], []string{"SKERRY_VERSION=v1.2.3"})
	wantRun(t, out, code, 0, "warning: skerry-edge goes back from 1.10.0 to 1.2.3", "skerry-edge 1.2.3 is online")

	// Nor behind what an agent that has updated itself runs.
	m.Write("/run/version", "1.11.0", 0o644)
	d.Script = strings.Replace(d.Script, "release_version='1.2.3'", "release_version='1.10.0'", 1)
	m.Write("/root/install.sh", d.Script, 0o644)
	d.write("channel/stable", []byte("1.10.0\n"))
	out, code = m.install(d, shells[0], nil)
	wantRun(t, out, code, 1, "skerry-edge 1.11.0 is there, and channel stable is at 1.10.0, which is older")
}

// The launcher takes an installed program that was written anew for another (update.BuildOf), so that writing it is what is shown here.
func TestTheInstalledVersionIsGoneBackToWhenItIsAskedForByName(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	out, code := m.install(d, shells[0], nil)
	wantRun(t, out, code, 0, "skerry-edge 1.2.3 is online")
	m.Write("/run/version", "1.3.0", 0o644) // it has updated itself
	before := m.Listing()
	out, code = m.install(d, shells[0], nil)
	wantRun(t, out, code, 0, "nothing has changed", "skerry-edge 1.3.0 is online", "to go back: this again with SKERRY_VERSION=1.2.3")
	m.Same(before)
	out, code = m.install(d, shells[0], []string{"SKERRY_VERSION=1.3.0"})
	wantRun(t, out, code, 1, "is there a version 1.3.0?")
	m.Same(before)
	calls := strings.Count(m.Read("/run/calls"), "restart")
	out, code = m.install(d, shells[0], []string{"SKERRY_VERSION=1.2.3"})
	wantRun(t, out, code, 0, "warning: skerry-edge goes back from 1.3.0 to 1.2.3", "wrote /usr/local/bin/skerry-edge\n")
	if now := strings.Count(m.Read("/run/calls"), "restart"); now != calls+1 {
		t.Errorf("%d restarts; wanted one", now-calls)
	}
	if strings.Contains(out, "wrote /etc/systemd") {
		t.Errorf("the service's file was written again:\n%s", out)
	}

	// So it is when the version that it went to does not run at all.
	if out, code := m.Run(nil, "rm", "/run/online"); code != 0 {
		t.Fatal(out)
	}
	m.Write("/var/lib/skerry-edge/update/state.1", "{}", 0o600)
	m.Write("/run/version", "1.2.3", 0o644)
	out, code = m.install(d, shells[0], []string{"SKERRY_VERSION=1.2.3"})
	wantRun(t, out, code, 0, "wrote /usr/local/bin/skerry-edge\n", "skerry-edge 1.2.3 is online")
	before = m.Listing()
	out, code = m.install(d, shells[0], []string{"SKERRY_VERSION=1.2.3"})
	wantRun(t, out, code, 0, "nothing has changed")
	m.Same(before)
}

func TestVersionsAreOrderedInShellAsInGo(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	order := []string{"0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0-0", "2.0.0"}
	_, rest, _ := strings.Cut(d.Script, "older() {")
	body, _, _ := strings.Cut(rest, "\n}\n")
	var script, want strings.Builder
	fmt.Fprintf(&script, "older() {%s\n}\n", body)
	for i, a := range order {
		for j, b := range order {
			fmt.Fprintf(&script, "older %s %s+b && echo %s %s\n", a, b, a, b)
			if i < j {
				fmt.Fprintf(&want, "%s %s\n", a, b)
			}
		}
	}
	script.WriteString("exit 0\n")
	for _, shell := range shells {
		m := NewMachine(t, nil)
		m.Write("/root/order.sh", script.String(), 0o644)
		if out, code := m.Run(nil, append(append([]string{}, shell...), "/root/order.sh")...); code != 0 || out != want.String() {
			t.Errorf("%s: %d, says that these are older:\n%s\nwanted\n%s", shell, code, out, want.String())
		}
	}
}

func TestEachInitSystemGetsItsService(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	t.Run("openrc", func(t *testing.T) {
		m := NewMachine(t, d.Handler())
		m.Write("/sbin/rc-service", "#!/bin/sh\ncase $* in *status*) [ -e /run/online ]; exit ;; esac\necho rc-service \"$@\" >>/run/calls\n: >/run/online\n", 0o755)
		m.Write("/sbin/rc-update", "#!/bin/sh\n[ $1 = show ] && { cat /run/runlevel 2>/dev/null; exit 0; }\necho rc-update \"$@\" >>/run/calls\necho \" $2 | $3\" >>/run/runlevel\n", 0o755)
		out, code := m.install(d, shells[2], nil)
		wantRun(t, out, code, 0, "init: openrc", "is online")
		if calls := m.Read("/run/calls"); calls != "rc-update add skerry-edge default\nrc-service skerry-edge restart\n" {
			t.Errorf("calls:\n%s", calls)
		}
		m.wantMode("/etc/init.d/skerry-edge", "-rwxr-xr-x")
		m.wantMode("/etc/logrotate.d/skerry-edge", "-rw-r--r--")
		before := m.Listing()
		out, code = m.install(d, shells[2], nil)
		wantRun(t, out, code, 0, "nothing has changed")
		m.Same(before)
		if out, code := m.Run(nil, "busybox", "ash", "/usr/local/bin/skerry-uninstall"); code != 0 || m.Read("/etc/init.d/skerry-edge") != "" {
			t.Errorf("uninstall: %d\n%s", code, out)
		}
		if calls := m.Read("/run/calls"); !strings.HasSuffix(calls, "rc-service skerry-edge stop\nrc-update delete skerry-edge default\n") {
			t.Errorf("calls:\n%s", calls)
		}
	})
	t.Run("procd", func(t *testing.T) {
		m := NewMachine(t, d.Handler())
		withProcd(m)
		out, code := m.install(d, shells[2], nil)
		wantRun(t, out, code, 0, "init: procd", "wrote /usr/bin/skerry-edge", "is online")
		if calls := m.Read("/run/calls"); !strings.HasPrefix(calls, "enable 95 05\nstart\n  command /usr/bin/skerry-edge run\n  file /etc/skerry/edge.yaml\n  respawn 3600 5 0\n") {
			t.Errorf("calls:\n%s", calls)
		}
		before := m.Listing()
		out, code = m.install(d, shells[2], nil)
		wantRun(t, out, code, 0, "nothing has changed")
		m.Same(before)
		if out, code := m.Run(nil, "busybox", "ash", "/usr/bin/skerry-uninstall"); code != 0 || m.Read("/etc/init.d/skerry-edge") != "" || m.Read("/usr/bin/skerry-edge") != "" {
			t.Errorf("uninstall: %d\n%s", code, out)
		}
	})
	t.Run("none", func(t *testing.T) {
		m := NewMachine(t, d.Handler())
		out, code := m.install(d, shells[0], nil)
		wantRun(t, out, code, 0, "init: none", "at boot run: /usr/local/bin/skerry-edge run", "done")
	})
}

func TestTheClusterAgentAndTheCommandLineAreModesOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	out, code := m.install(d, shells[0], []string{"SKERRY_ADVERTISE=192.0.2.1,hub.example"}, "cluster")
	wantRun(t, out, code, 0, "skerry-cluster 1.2.3 is online", "skerry token create")
	if got := m.Read("/etc/skerry/cluster.yaml"); !strings.Contains(got, `advertise: ["192.0.2.1","hub.example"]`) || !strings.Contains(got, "dir: /var/lib/skerry-cluster\n") {
		t.Errorf("cluster.yaml is\n%s", got)
	}
	if calls := m.Read("/run/calls"); !strings.Contains(calls, "restart skerry-cluster.service") || m.Read("/usr/local/bin/skerry") == "" || m.Read("/usr/local/bin/skerry-edge") != "" {
		t.Errorf("calls:\n%s", calls)
	}
	m = NewMachine(t, d.Handler())
	out, code = m.install(d, shells[0], nil, "cli")
	wantRun(t, out, code, 0, "wrote /usr/local/bin/skerry\n", "done")
	out, code = m.install(d, shells[0], nil, "continuum")
	wantRun(t, out, code, 2, "mode continuum; wanted one of: edge cluster cli")
}

func TestWhatDoesNotComeOnlineIsToldWithTheDoctorsLine(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/run/broken", "", 0o644)
	out, code := m.install(d, shells[0], []string{"INSTALL_SKERRY_WAIT=3"})
	wantRun(t, out, code, 3, "skerry-edge is installed, and not online after 3 s", "token: the cluster agent says that it has expired")
	m.Write("/usr/bin/systemctl", "#!/bin/sh\nexit 1\n", 0o755)
	out, code = m.install(d, shells[0], []string{"INSTALL_SKERRY_SKIP_ENABLE=1"})
	wantRun(t, out, code, 3, "does not start: systemctl restart skerry-edge.service failed", "token: the cluster agent says that it has expired")
}

func TestWithoutAJoinStringNothingIsStarted(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	out, code := m.install(d, shells[0], []string{"SKERRY_JOIN="})
	wantRun(t, out, code, 0, "not started, as it has no join string: write one to /etc/skerry/edge.join (0600) and then: systemctl restart skerry-edge.service")
	if calls := m.Read("/run/calls"); strings.Contains(calls, "restart") {
		t.Errorf("calls:\n%s", calls)
	}
}

func TestADryRunWritesNothing(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/root/install.sh", d.Script, 0o644)
	before := m.Listing()
	out, code := m.install(d, shells[0], []string{"INSTALL_SKERRY_DRY_RUN=1"})
	wantRun(t, out, code, 0, "would write /usr/local/bin/skerry-edge", "would write /etc/skerry/edge.yaml", "dry run: nothing was written")
	m.Same(before)
}

func TestAnImageIsFilledAndNothingIsStarted(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/srv/image/usr/lib/systemd/system/x", "", 0o644)
	out, code := m.install(d, shells[0], []string{"DESTDIR=/srv/image"})
	wantRun(t, out, code, 0, "init: systemd", "wrote /srv/image/usr/local/bin/skerry-edge", "wrote /srv/image/etc/systemd/system/skerry-edge.service")
	if m.Read("/run/calls") != "" || m.Read("/usr/local/bin/skerry-edge") != "" || !strings.Contains(m.Read("/srv/image/etc/skerry/edge.yaml"), `"@/etc/skerry/edge.join"`) {
		t.Errorf("calls %q", m.Read("/run/calls"))
	}
}

func TestUninstallKeepsStateAndPurgeDoesNot(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for _, c := range []struct {
		purge, cut bool
		says       string
	}{{false, false, "--purge would have removed them"}, {true, false, "node pump-3 has left cluster harbour"}, {true, true, "skerry node remove pump-3"}} {
		purge := c.purge
		m := NewMachine(t, d.Handler())
		withSystemd(m)
		out, code := m.install(d, shells[0], nil)
		wantRun(t, out, code, 0)
		m.Write("/var/lib/skerry-edge/identity.json", "{}", 0o600)
		argv := []string{"/usr/local/bin/skerry-uninstall"}
		if purge {
			argv = append(argv, "--purge")
		}
		if c.cut {
			m.Write("/run/cut", "", 0o644)
		}
		out, code = m.Run(nil, argv...)
		wantRun(t, out, code, 0, "removed /usr/local/bin/skerry-edge", "removed /usr/local/bin/skerry-uninstall")
		for _, gone := range []string{"/usr/local/bin/skerry-edge", "/usr/local/bin/skerry-uninstall", "/etc/systemd/system/skerry-edge.service"} {
			if m.Read(gone) != "" {
				t.Errorf("%s is still there", gone)
			}
		}
		if calls := m.Read("/run/calls"); !strings.HasSuffix(calls, "disable --now skerry-edge.service\ndaemon-reload\n") {
			t.Errorf("calls:\n%s", calls)
		}
		kept := m.Read("/var/lib/skerry-edge/identity.json") != "" && m.Read("/etc/skerry/edge.yaml") != ""
		wantRun(t, out, code, 0, c.says)
		if strings.Contains(out, "skerry node remove") != c.cut {
			t.Errorf("cut %v:\n%s", c.cut, out)
		}
		if kept == purge {
			t.Errorf("purge %v: state kept: %v\n%s", purge, kept, out)
		}
		out, code = m.Run(nil, "dash", filepath.Join("/root", "none"))
		if code == 0 {
			t.Errorf("a script that is not there ran: %s", out)
		}
	}
}
