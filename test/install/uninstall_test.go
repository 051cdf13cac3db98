package install

import (
	"strings"
	"testing"
)

func TestEachRoleIsUninstalledByItself(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for _, shell := range [][]string{shells[0], shells[2]} {
		m := NewMachine(t, d.Handler())
		withSystemd(m)
		for _, mode := range []string{"edge", "cluster"} {
			out, code := m.install(d, shell, nil, mode)
			wantRun(t, out, code, 0)
		}
		uninstall := func(want int, says string, args ...string) string {
			t.Helper()
			out, code := m.Run(nil, append(append(append([]string{}, shell...), "/usr/local/bin/skerry-uninstall"), args...)...)
			wantRun(t, out, code, want, says)
			return out
		}
		before := m.Listing()
		uninstall(2, "wanted edge, cluster or cli", "continuum")
		uninstall(2, "wanted edge, cluster or cli", "edge", "cluster")
		uninstall(0, "usage: skerry-uninstall [edge|cluster|cli] [--purge]", "--help")
		m.Same(before)
		m.Write("/run/calls", "", 0o644)
		out := uninstall(0, "node pump-3 has left cluster harbour", "edge", "--purge")
		wantRun(t, out, 0, 0, "removed /etc/skerry/edge.yaml", "/usr/local/bin/skerry-uninstall stays, for skerry-cluster")
		m.wantFile("/run/calls", "disable --now skerry-edge.service\ndaemon-reload\n")
		for path, stays := range map[string]bool{"/usr/local/bin/skerry-edge": false, "/etc/skerry/edge.join": false, "/usr/local/bin/skerry-cluster": true,
			"/usr/local/bin/skerry": true, "/etc/skerry/cluster.yaml": true, "/etc/systemd/system/skerry-cluster.service": true, "/usr/local/bin/skerry-uninstall": true} {
			if (m.Read(path) != "") != stays {
				t.Errorf("%s is there: %v", path, !stays)
			}
		}
		uninstall(0, "removed /usr/local/bin/skerry-uninstall", "cluster", "--purge")
		if out, _ := m.Run(nil, "sh", "-c", "ls -d /etc/skerry /usr/local/bin/skerry* 2>/dev/null"); out != "" {
			t.Errorf("there is still\n%s", out)
		}
		out, code := m.install(d, shell, nil, "cli")
		wantRun(t, out, code, 0, "wrote /usr/local/bin/skerry-uninstall\n")
		uninstall(0, "removed /usr/local/bin/skerry\n", "cli")
	}
}

func TestAPurgeWithoutTheProgramSaysThatTheNodeStays(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	out, code := m.install(d, shells[0], nil)
	wantRun(t, out, code, 0)
	out, code = m.Run(nil, "/usr/local/bin/skerry-uninstall")
	wantRun(t, out, code, 0, "to do that later: the release server's uninstall.sh with --purge")
	m.Write("/root/uninstall.sh", string(d.source("uninstall.sh")), 0o755)
	identity := "{\n  \"node\": \"pump-3\",\n  \"certificate\": \"\"\n}\n"
	for _, enrolled := range []bool{false, true} {
		if enrolled {
			identity = strings.Replace(identity, `""`, `"-----BEGIN CERTIFICATE-----"`, 1)
		}
		m.Write("/var/lib/skerry-edge/identity.json", identity, 0o600)
		out, code = m.Run(nil, "busybox", "ash", "/root/uninstall.sh", "--purge")
		wantRun(t, out, code, 0, "removed /var/lib/skerry-edge")
		if strings.Contains(out, "the cluster agent still knows this node: ") != enrolled || strings.Contains(out, "skerry node remove pump-3") != enrolled {
			t.Errorf("enrolled %v:\n%s", enrolled, out)
		}
	}
}

// TestUninstallingLeavesTheAgentsOfOthers has one of a container run from the same path, with a root of its own, and one from another
// directory of updates. What is to end ends: TestUninstallingEndsWhatRunsFromWhereUpdatesLie.
func TestUninstallingLeavesTheAgentsOfOthers(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for _, shell := range shells {
		m := NewMachine(t, d.Handler())
		withSystemd(m)
		out, code := m.install(d, shell, nil)
		wantRun(t, out, code, 0)
		out, code = m.Run(nil, "sh", "-c", `mkdir -p /srv/root /srv/other/update/a /var/lib/skerry-edge/update/b
for at in /var/lib/skerry-edge/update/b /srv/other/update/a; do cp /usr/bin/perl $at/skerry-edge; done
/var/lib/skerry-edge/update/b/skerry-edge -e 'chroot "/srv/root" or die; sleep 300' >/dev/null 2>&1 &
inside=$!
/srv/other/update/a/skerry-edge -e 'sleep 300' >/dev/null 2>&1 &
other=$!
/var/lib/skerry-edge/update/b/skerry-edge -e 'sleep 300' >/dev/null 2>&1 &
ours=$!
echo $inside $other $ours
tries=0
until [ "$(readlink /proc/$inside/root)" = /srv/root ] && readlink /proc/$other/exe | grep -q ^/srv/other && readlink /proc/$ours/exe | grep -q skerry-edge
do tries=$((tries+1)); [ $tries -lt 600 ] || exit 1; busybox sleep 0.1; done`)
		pids := strings.Fields(out)
		if code != 0 || len(pids) != 3 {
			t.Fatalf("%d: %s", code, out)
		}
		out, code = m.Run(nil, append(append([]string{}, shell...), "/usr/local/bin/skerry-uninstall")...)
		wantRun(t, out, code, 0, "removed /usr/local/bin/skerry-edge")
		for i, pid := range pids {
			state, code := m.Run(nil, "sh", "-c", "grep State /proc/"+pid+"/status")
			if runs := code == 0 && !strings.Contains(state, "zombie"); runs != (i < 2) {
				t.Errorf("%s: process %d of the three runs: %v\n%s", shell, i+1, runs, out)
			}
			m.Run(nil, "kill", "-9", pid)
		}
	}
}
