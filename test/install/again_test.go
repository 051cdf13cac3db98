package install

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// withServices puts a systemctl there that knows what was started: /run/version is the version of the program at the last restart.
func withServices(m *Machine) {
	withSystemd(m)
	systemctl := strings.Replace(m.Read("/usr/bin/systemctl"), "restart) ", `restart) "/usr/local/bin/${2%.service}" version | cut -d' ' -f2 >/run/version; `, 1)
	m.Write("/usr/bin/systemctl", systemctl, 0o755)
}

// delete removes files, which may not be there.
func (m *Machine) delete(paths ...string) {
	m.t.Helper()
	m.Do(func() error {
		for _, p := range paths {
			if err := os.Remove(m.Path(p)); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
}

// wantUpgraded says that everything is of that version, that it is what runs, and that nothing lies about.
func (m *Machine) wantUpgraded(service, version string) {
	m.t.Helper()
	m.wantFile("/run/version", version+"\n")
	for _, path := range []string{"/etc/systemd/system/" + service + ".service", "/usr/local/bin/skerry-uninstall"} {
		if got := m.Read(path); !strings.HasSuffix(got, "\n# of "+version+"\n") {
			m.t.Errorf("%s is not of %s: …%s", path, version, got[max(0, len(got)-40):])
		}
	}
	for _, line := range m.Listing() {
		if strings.Contains(line, ".skerry-new.") {
			m.t.Errorf("it has left %s", line)
		}
	}
	if out, _ := m.Run(nil, "sh", "-c", "ls -d /run/skerry-install.* 2>/dev/null"); out != "" {
		m.t.Errorf("it has left %s", out)
	}
}

// upgradable is a machine with 1.2.3 for which there is a 1.3.0, with other service files.
func upgradable(t *testing.T, mode string) (*Depot, *Machine) {
	t.Helper()
	d := NewDepot(t)
	d.Mark = "\n# of 1.2.3\n"
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withServices(m)
	out, code := m.install(d, shells[0], nil, mode)
	wantRun(t, out, code, 0)
	m.wantFile("/run/version", "1.2.3\n")
	d.Mark = "\n# of 1.3.0\n"
	d.Release("1.3.0", nil)
	m.Write("/run/calls", "", 0o644)
	return d, m
}

func TestWhatWasNotStartedIsStartedByTheNextRun(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"edge", "cluster"} {
		for _, shell := range [][]string{shells[0], shells[2]} {
			t.Run(mode+" "+shell[0], func(t *testing.T) {
				d, m := upgradable(t, mode)
				out, code := m.install(d, shell, []string{"INSTALL_SKERRY_SKIP_START=1"}, mode)
				wantRun(t, out, code, 0, "not started, as INSTALL_SKERRY_SKIP_START says: systemctl restart skerry-"+mode)
				m.wantFile("/run/version", "1.2.3\n")
				out, code = m.install(d, shell, nil, mode)
				wantRun(t, out, code, 0, "+ systemctl restart skerry-"+mode, "skerry-"+mode+" 1.3.0 is online")
				m.wantUpgraded("skerry-"+mode, "1.3.0")
				before := m.Listing()
				out, code = m.install(d, shell, nil, mode)
				wantRun(t, out, code, 0, "nothing has changed")
				m.Same(before)
			})
		}
	}
}

// interrupt has a program of the machine behave as if Ctrl-C had been pressed while it ran, once.
func (m *Machine) interrupt(program, when string) {
	m.Write("/usr/local/sbin/"+program, fmt.Sprintf(`#!/bin/sh
case "$*" in %s)
	if mkdir /run/pressed 2>/dev/null; then kill -INT -$(ps -o pgid= $$ | tr -d ' '); fi ;;
esac
exec /usr/bin/%s "$@"
`, when, program), 0o755)
}

func (m *Machine) installInGroup(d *Depot, shell []string, mode string) (string, int) {
	m.t.Helper()
	return m.install(d, append([]string{"env", "--default-signal=INT", "setsid", "-w"}, shell...), nil, mode) // a test in the background ignores it
}

func TestCtrlCLeavesNothingThatIsHalfThere(t *testing.T) {
	t.Parallel()
	for _, shell := range [][]string{shells[0], shells[2]} {
		t.Run(shell[0], func(t *testing.T) {
			d, m := upgradable(t, "cluster")
			m.Write("/root/install.sh", d.Script, 0o644)
			before := m.Listing()
			m.interrupt("curl", "*1.3.0*tar.gz*")
			out, code := m.installInGroup(d, shell, "cluster")
			wantRun(t, out, code, 130, "interrupted: nothing was installed or changed")
			if out, code := m.Run(nil, "rmdir", "/run/pressed"); code != 0 {
				t.Errorf("it was not pressed: %s", out)
			}
			m.delete("/usr/local/sbin/curl")
			m.Same(before)

			m.interrupt("systemctl", "daemon-reload")
			out, code = m.installInGroup(d, shell, "cluster")
			wantRun(t, out, code, 130, "interrupted: everything is in place, and skerry-cluster is not restarted; run this again")
			m.delete("/usr/local/sbin/systemctl", "/run/pressed")
			m.wantFile("/run/version", "1.2.3\n")
			m.Write("/run/calls", "", 0o644)
			out, code = m.installInGroup(d, shell, "cluster")
			wantRun(t, out, code, 0, "skerry-cluster 1.3.0 is online")
			m.wantUpgraded("skerry-cluster", "1.3.0")
			m.wantFile("/run/calls", "daemon-reload\nrestart skerry-cluster.service\n")
		})
	}
}

// mv is a program of its own to dash, and not to busybox's shell.
func TestCtrlCIsNotHeardBetweenTwoRenames(t *testing.T) {
	t.Parallel()
	d, m := upgradable(t, "cluster")
	m.interrupt("mv", "*skerry-new*")
	out, code := m.installInGroup(d, shells[0], "cluster")
	wantRun(t, out, code, 0, "skerry-cluster 1.3.0 is online")
	m.wantUpgraded("skerry-cluster", "1.3.0")
	if out, code := m.Run(nil, "rmdir", "/run/pressed"); code != 0 {
		t.Errorf("it was not pressed: %s", out)
	}
}

// TestWhenItEndsBetweenTwoRenamesTheNextRunMends has the installer killed after each of them in turn, as a power cut would end it.
func TestWhenItEndsBetweenTwoRenamesTheNextRunMends(t *testing.T) {
	t.Parallel()
	for mode, renames := range map[string]int{"edge": 4, "cluster": 5} {
		d, m := upgradable(t, mode)
		for after := 0; after <= renames; after++ {
			was, is := fmt.Sprintf("1.%d.0", after+2), fmt.Sprintf("1.%d.0", after+3)
			if after == 0 {
				was = "1.2.3"
			}
			t.Run(fmt.Sprintf("%s %d", mode, after), func(t *testing.T) {
				m.t, d.t = t, t
				d.Mark = "\n# of " + is + "\n"
				d.Release(is, nil)
				m.Write("/usr/local/sbin/mv", fmt.Sprintf(`#!/bin/sh
case "$*" in *skerry-new*) ;; *) exec /usr/bin/mv "$@" ;; esac
[ %[1]d != 0 ] || kill -9 $PPID
/usr/bin/mv "$@"
echo x >>/run/renames
[ $(wc -l </run/renames) -lt %[1]d ] || kill -9 $PPID
`, after), 0o755)
				out, code := m.install(d, shells[0], nil, mode)
				wantRun(t, out, code, -1) // by a signal
				if got := strings.Count(m.Read("/run/renames"), "x"); after > 0 && got != after {
					t.Errorf("%d renames; wanted %d\n%s", got, after, out)
				}
				out, _ = m.Run(nil, "/usr/local/bin/skerry-"+mode, "version")
				if want := map[bool]string{true: was, false: is}[after < renames]; !strings.Contains(out, want) {
					t.Errorf("the service's program is not the last; wanted %s: %s", want, out)
				}
				m.delete("/usr/local/sbin/mv", "/run/renames")
				out, code = m.install(d, shells[0], nil, mode)
				wantRun(t, out, code, 0, "+ systemctl daemon-reload", "+ systemctl restart skerry-"+mode, "skerry-"+mode+" "+is+" is online")
				m.wantUpgraded("skerry-"+mode, is)
				if got := m.Read("/etc/skerry/" + mode + ".yaml"); !strings.Contains(got, "\n# defaults of "+is+"\n") {
					t.Errorf("the configuration is\n%s", got)
				}
				out, _ = m.Run(nil, "/usr/local/bin/skerry", "version")
				if mode == "cluster" && !strings.HasPrefix(out, "skerry "+is+" ") {
					t.Errorf("the command line is %s", out)
				}
			})
		}
	}
}

// TestAnUpgradeThatGoesWrongChangesNothing has what was installed go on as it is.
func TestAnUpgradeThatGoesWrongChangesNothing(t *testing.T) {
	t.Parallel()
	const archive = "1.3.0/skerry-edge_1.3.0_linux-amd64_lite.tar.gz"
	d, m := upgradable(t, "edge")
	m.Write("/root/install.sh", d.Script, 0o644)
	readOnly := func(dir string) func() func() {
		return func() func() {
			m.Do(func() error {
				if err := unix.Mount(m.Path(dir), m.Path(dir), "", unix.MS_BIND, ""); err != nil {
					return err
				}
				return unix.Mount("", m.Path(dir), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
			})
			return func() { m.Do(func() error { return unix.Unmount(m.Path(dir), unix.MNT_DETACH) }) }
		}
	}
	configured := m.Read("/etc/skerry/edge.yaml")
	for _, c := range []struct {
		name  string
		spoil func() func()
		env   []string
		want  string
	}{
		{"wrong hash", func() func() { return d.spoil(archive, flip(9000)) }, nil, "is not what the manifest says"},
		{"wrong signature", func() func() { return d.spoil("1.3.0/manifest.json", flip(200)) }, nil, "is not that of the release key"},
		{"cut archive", func() func() { return d.spoil(archive, func(b []byte) []byte { return b[:9000] }) }, nil, "has 9000 bytes; wanted"},
		{"read-only programs", readOnly("/usr/local/bin"), nil, "cannot write /usr/local/bin/skerry-edge: "},
		{"read-only configuration", readOnly("/etc/skerry"), nil, "cannot write /etc/skerry/edge.yaml: "},
		{"read-only units", readOnly("/etc/systemd/system"), nil, "cannot write /etc/systemd/system/skerry-edge.service: "},
		{"a join string that is cut", func() func() { return func() {} }, []string{"SKERRY_JOIN=skerry1.cut"}, "the join string is not taken: join string is damaged"},
		{"a join string of another cluster", func() func() { return func() {} }, []string{"SKERRY_JOIN=skerry1.elsewhere"}, "the join string is for another cluster"},
		{"a key that it does not know", func() func() {
			m.Write("/etc/skerry/edge.yaml", configured+"refused_by_1.3.0: 1\n", 0o644)
			return func() { m.Write("/etc/skerry/edge.yaml", configured, 0o644) }
		}, nil, "skerry-edge 1.3.0 does not take /etc/skerry/edge.yaml, so that nothing is replaced:   refused_by_1.3.0 (/etc/skerry/edge.yaml:9)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.t = t
			restore := c.spoil()
			before := m.Listing()
			out, code := m.install(d, shells[0], c.env)
			m.Same(before)
			restore()
			wantRun(t, out, code, 1, c.want, "nothing was installed or changed")
			m.wantFile("/run/calls", "")
		})
	}
	m.t = t
	m.Write("/run/missing", "", 0o644) // a user that comes with what is installed next
	out, code := m.install(d, shells[0], nil)
	wantRun(t, out, code, 0, "skerry-edge 1.3.0 is online", // so that the above is not for another reason
		`warning: skerry-edge takes /etc/skerry/edge.yaml, but:   command.exec[0].user "app" (/etc/skerry/edge.yaml:9): wanted a user of this machine`)
	m.wantUpgraded("skerry-edge", "1.3.0")
}

func TestADamagedServiceFileAndUninstallerAreMended(t *testing.T) {
	t.Parallel()
	for _, shell := range [][]string{shells[0], shells[2]} {
		d := NewDepot(t)
		d.Release("1.2.3", nil)
		m := NewMachine(t, d.Handler())
		withServices(m)
		out, code := m.install(d, shell, nil)
		wantRun(t, out, code, 0)
		good := m.Listing()
		for _, path := range []string{"/etc/systemd/system/skerry-edge.service", "/usr/local/bin/skerry-uninstall"} {
			for _, damage := range []string{"", "garbage\n"} {
				m.Write(path, damage, 0o644)
				m.Write("/run/calls", "", 0o644)
				out, code = m.install(d, shell, nil)
				wantRun(t, out, code, 0, "wrote "+path)
				if calls := m.Read("/run/calls"); strings.Contains(calls, "restart") != strings.HasSuffix(path, ".service") {
					t.Errorf("%s: systemctl was called with\n%s", path, calls)
				}
			}
		}
		m.Write("/run/calls", "daemon-reload\nenable skerry-edge.service\nrestart skerry-edge.service\n", 0o644)
		m.Same(good)

		// Nor is a service left that reads the configuration of an earlier run, elsewhere.
		out, code = m.install(d, shell, []string{"INSTALL_SKERRY_DIR=/srv/conf"})
		wantRun(t, out, code, 0, "wrote /etc/systemd/system/skerry-edge.service")
		out, code = m.install(d, shell, nil)
		wantRun(t, out, code, 0, "wrote /etc/systemd/system/skerry-edge.service")
		if got := m.Read("/etc/systemd/system/skerry-edge.service"); strings.Contains(got, "/srv/conf") {
			t.Errorf("the service is\n%s", got)
		}
	}
}
