package install

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestTheServiceReadsTheConfigurationWhereverItIs(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for init, wanted := range map[string][]string{
		"systemd": {"[Service]\nEnvironment=SKERRY_EDGE_CONFIG=/srv/conf/edge.yaml\n"},
		"openrc":  {"\nexport SKERRY_EDGE_CONFIG=/srv/conf/edge.yaml\n"},
		"procd":   {"\nexport SKERRY_EDGE_CONFIG=/srv/conf/edge.yaml\n", "procd_set_param env SKERRY_EDGE_CONFIG=/srv/conf/edge.yaml\n", "procd_set_param file /srv/conf/edge.yaml "},
	} {
		for _, shell := range shells {
			m := NewMachine(t, d.Handler())
			out, code := m.install(d, shell, []string{"INSTALL_SKERRY_DIR=/srv/conf", "INSTALL_SKERRY_INIT=" + init, "INSTALL_SKERRY_SKIP_ENABLE=1", "INSTALL_SKERRY_SKIP_START=1"})
			wantRun(t, out, code, 0, "wrote /srv/conf/edge.yaml")
			service := m.Read("/etc/init.d/skerry-edge") + m.Read("/etc/systemd/system/skerry-edge.service")
			for _, w := range wanted {
				if !strings.Contains(service, w) {
					t.Errorf("%s, %s: the service has no %q:\n%s", init, shell, w, service)
				}
			}
			if out, code := m.Run(nil, "dash", "-n", "/etc/init.d/skerry-edge"); init != "systemd" && code != 0 {
				t.Errorf("%s, %s: %s", init, shell, out)
			}
		}
	}
}

func TestWhereVarIsMemoryStateLiesBesideTheConfiguration(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	t.Run("OpenWrt", func(t *testing.T) {
		m := NewMachine(t, d.Handler())
		env := []string{"INSTALL_SKERRY_INIT=procd", "INSTALL_SKERRY_SKIP_ENABLE=1", "INSTALL_SKERRY_SKIP_START=1"}
		out, code := m.install(d, shells[2], env)
		wantRun(t, out, code, 0, "state is kept in /etc/skerry/skerry-edge")
		if got := m.Read("/etc/skerry/edge.yaml"); !strings.Contains(got, "\ndir: /etc/skerry/skerry-edge") {
			t.Errorf("edge.yaml is\n%s", got)
		}
		keep := m.Read("/lib/upgrade/keep.d/skerry-edge")
		for _, path := range []string{"/etc/skerry/", "/usr/bin/skerry-edge", "/usr/bin/skerry-uninstall", "/etc/init.d/skerry-edge", "/etc/rc.d/S95skerry-edge",
			"/etc/rc.d/K05skerry-edge", "/lib/upgrade/keep.d/skerry-edge"} {
			if !strings.Contains(keep, path+"\n") {
				t.Errorf("an upgrade of the system keeps\n%s\nand not %s", keep, path)
			}
		}
		m.Write("/etc/skerry/skerry-edge/identity.json", "{}", 0o600)
		out, code = m.Run(nil, "/usr/bin/skerry-uninstall")
		wantRun(t, out, code, 0, "removed /lib/upgrade/keep.d/skerry-edge")
		if m.Read("/etc/skerry/skerry-edge/identity.json") == "" {
			t.Error("the state has not stayed")
		}
	})
	t.Run("a machine whose /var is a tmpfs", func(t *testing.T) {
		m := NewMachine(t, d.Handler())
		m.Mount("/var/lib", "size=1m", 0)
		out, code := m.install(d, shells[0], []string{"INSTALL_SKERRY_INIT=openrc", "INSTALL_SKERRY_SKIP_ENABLE=1", "INSTALL_SKERRY_SKIP_START=1"})
		wantRun(t, out, code, 0, "state is kept in /etc/skerry/skerry-edge")
		m = NewMachine(t, d.Handler())
		m.Mount("/var/lib", "size=1m", 0)
		withSystemd(m)
		out, code = m.install(d, shells[0], nil)
		wantRun(t, out, code, 0, "warning: /var/lib is in memory")
	})
}

func TestASecondRunMendsModesAndNeedsNoKindMask(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/root/install.sh", d.Script, 0o644)
	out, code := m.Run([]string{"SKERRY_URL=" + m.URL, "SKERRY_JOIN=" + joinString, "INSTALL_SKERRY_DIR=/srv/new/conf"}, "sh", "-c", "umask 077; exec dash /root/install.sh")
	wantRun(t, out, code, 0)
	m.wantMode("/srv/new", "drwxr-xr-x")
	m.wantMode("/srv/new/conf", "drwxr-xr-x")
	m.wantMode("/srv/new/conf/edge.yaml", "-rw-r--r--")
	m.Run(nil, "chmod", "0644", "/usr/local/bin/skerry-edge", "/srv/new/conf/edge.join")
	out, code = m.install(d, shells[0], []string{"INSTALL_SKERRY_DIR=/srv/new/conf"})
	wantRun(t, out, code, 0)
	m.wantMode("/usr/local/bin/skerry-edge", "-rwxr-xr-x")
	m.wantMode("/srv/new/conf/edge.join", "-rw-------")
}

// TestTwoRunsAtOnceDoNotTouchEachOthersFiles stops the first one when all is written and nothing is in place, and has the second fail half-way.
func TestTwoRunsAtOnceDoNotTouchEachOthersFiles(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/usr/bin/sync", "#!/bin/sh\n: >/run/second\ndash /root/install.sh >/run/told 2>&1\nexit 0\n", 0o755)
	m.Write("/usr/bin/cp", "#!/bin/sh\n[ -e /run/second ] || exec busybox cp \"$@\"\nhead -c 5000 \"$1\" >\"$2\"\nexit 1\n", 0o755)
	out, code := m.install(d, shells[0], nil)
	wantRun(t, out, code, 0, "skerry-edge 1.2.3 is online")
	wantRun(t, m.Read("/run/told"), 1, 1, "cannot write /usr/local/bin/skerry-edge")
	if got := len(m.Read("/usr/local/bin/skerry-edge")); got < 20<<10 {
		t.Errorf("the program has %d bytes", got)
	}
}

func TestAPurgeLeavesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/srv/conf/foreign.conf", "mine", 0o644)
	out, code := m.install(d, shells[0], []string{"INSTALL_SKERRY_DIR=/srv/conf"})
	wantRun(t, out, code, 0)
	out, code = m.Run([]string{"INSTALL_SKERRY_DIR=/srv/conf"}, "/usr/local/bin/skerry-uninstall", "--purge")
	wantRun(t, out, code, 0, "removed /srv/conf/edge.yaml", "removed /srv/conf/edge.join", "/srv/conf stays: others have files there")
	m.wantFile("/srv/conf/foreign.conf", "mine")
	if got := m.Read("/srv/conf/edge.join"); got != "" {
		t.Errorf("the join string has stayed: %s", got)
	}
}

// TestAnUpgradeOfAnIPKStopsNothing runs its scripts as opkg does: the old one's prerm with PKG_UPGRADE=1, then the new one's postinst.
func TestAnUpgradeOfAnIPKStopsNothing(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	m := NewMachine(t, nil)
	m.Write("/etc/init.d/skerry-edge", "#!/bin/sh\necho \"$1\" >>/run/calls\n", 0o755)
	for _, name := range []string{"preremove", "postinstall"} {
		script := strings.ReplaceAll(string(d.source(filepath.Join("package", "procd-"+name+".sh"))), "@PROGRAM@", "skerry-edge")
		m.Write("/root/"+name, script, 0o755)
	}
	for _, c := range []struct{ upgrade, wanted string }{{"1", "running\nrestart\n"}, {"0", "disable\nstop\nrunning\nrestart\n"}} {
		m.Write("/run/calls", "", 0o644)
		for _, name := range []string{"preremove", "postinstall"} {
			out, code := m.Run([]string{"PKG_UPGRADE=" + c.upgrade}, "busybox", "ash", "/root/"+name)
			wantRun(t, out, code, 0)
		}
		m.wantFile("/run/calls", c.wanted)
	}
}

func TestUninstallingEndsWhatRunsFromWhereUpdatesLie(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	out, code := m.install(d, shells[0], nil)
	wantRun(t, out, code, 0)
	m.Write("/etc/skerry/edge.yaml", "join: x\nupdate:\n  dir: /data/slots # on the large disk\n  keys: []\nlog: {level: info}\n", 0o600)
	out, code = m.Run(nil, "sh", "-c", "mkdir -p /data/slots/a && cp /usr/bin/tail /data/slots/a/skerry-edge && "+
		"{ /data/slots/a/skerry-edge -f /dev/null >/dev/null 2>&1 & } && echo $!")
	wantRun(t, out, code, 0)
	pid := strings.TrimSpace(out)
	out, code = m.Run(nil, "kill", "-0", pid)
	wantRun(t, out, code, 0)
	out, code = m.Run(nil, "/usr/local/bin/skerry-uninstall", "--purge")
	wantRun(t, out, code, 0, "stays, as the configuration named it: /data/slots")
	if out, code := m.Run(nil, "sh", "-c", "grep State /proc/"+pid+"/status"); code == 0 && !strings.Contains(out, "zombie") {
		t.Errorf("it goes on: %s", out)
		m.Run(nil, "kill", "-9", pid)
	}
}
