package install

import (
	"strings"
	"testing"
)

// procd is an rc.common that has of procd's what was seen of the real one (2026-08-18, with OpenWrt's scripts of 2025-07-14): whatever
// start_service returns, procd is told of the service; stop comes back before the process has ended; and what is not known is dropped.
const procd = `#!/bin/sh
procd_open_instance() { instance=1; }
procd_close_instance() { :; }
procd_set_param() {
	case $1 in
	command | file | respawn | env | stdout | stderr | term_timeout) echo "  $*" >>/run/calls ;;
	*) echo "  procd drops $1" >>/run/calls ;;
	esac
}
. "$1"
enabled() { [ -e /run/enabled ]; }
enable() { : >/run/enabled; }
disable() { rm -f /run/enabled; }
running() {
	[ -e /run/online ] || return 1
	[ ! -e /run/ending ] || rm /run/ending /run/online
}
start() {
	instance=""
	start_service
	rm -f /run/online
	[ -z "$instance" ] || : >/run/online
}
stop() { [ ! -e /run/online ] || : >/run/ending; }
case $2 in
enable) echo "enable $START $STOP" >>/run/calls ;;
start) [ ! -e /run/ending ] && echo start >>/run/calls || echo "start beside the old one" >>/run/calls ;;
stop) echo stop >>/run/calls ;;
esac
[ "$USE_PROCD" = 1 ] && $2
`

func withProcd(m *Machine) {
	m.Write("/sbin/procd", "#!/bin/sh\n", 0o755)
	m.Write("/etc/rc.common", procd, 0o755)
	m.Write("/run/calls", "", 0o644)
}

func (m *Machine) has(path string) bool {
	_, code := m.Run(nil, "test", "-e", path)
	return code == 0
}

// TestUnderProcdNothingIsTakenForTheNewProcessBeforeTheOldOneHasEnded upgrades and uninstalls: procd itself waits for nothing.
func TestUnderProcdNothingIsTakenForTheNewProcessBeforeTheOldOneHasEnded(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withProcd(m)
	out, code := m.install(d, shells[2], nil)
	wantRun(t, out, code, 0, "skerry-edge 1.2.3 is online")
	d.Release("1.2.4", nil)
	m.Write("/run/calls", "", 0o644)
	out, code = m.install(d, shells[2], nil)
	wantRun(t, out, code, 0, "skerry-edge 1.2.4 is online")
	if calls := m.Read("/run/calls"); !strings.HasPrefix(calls, "stop\nstart\n") {
		t.Errorf("calls:\n%s", calls)
	}
	m.Write("/etc/skerry/skerry-edge/identity.json", "{}", 0o600)
	out, code = m.Run(nil, "busybox", "ash", "/usr/bin/skerry-uninstall", "--purge")
	wantRun(t, out, code, 0, "removed /etc/skerry/skerry-edge", "removed /etc/skerry\n", "removed /usr/bin/skerry-uninstall")
	if m.has("/run/ending") || m.has("/run/online") {
		t.Error("what was removed was so before the process had ended")
	}
}

// TestUnderProcdTheClusterAgentIsFoundWhereItsStateIs has its state beside its configuration, as /var is memory there.
func TestUnderProcdTheClusterAgentIsFoundWhereItsStateIs(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withProcd(m)
	m.Write("/run/asked", "/etc/skerry/skerry-cluster/admin.yaml", 0o644)
	out, code := m.install(d, shells[2], []string{"SKERRY_ADVERTISE=192.0.2.1"}, "cluster")
	wantRun(t, out, code, 0, "skerry-cluster 1.2.3 is online", "next: SKERRY_CONFIG=/etc/skerry/skerry-cluster/admin.yaml /usr/bin/skerry token create")
	if keep := m.Read("/lib/upgrade/keep.d/skerry-cluster"); !strings.Contains(keep, "/usr/bin/skerry-cluster\n/usr/bin/skerry\n") {
		t.Errorf("an upgrade of the system keeps\n%s", keep)
	}
	m.Write("/run/faulty", "", 0o644)
	out, code = m.Run(nil, "/etc/init.d/skerry-cluster", "start")
	if code == 0 || !m.has("/run/online") {
		t.Errorf("a faulty configuration: start ends with %d, and the one that ran goes on: %v\n%s", code, m.has("/run/online"), out)
	}
}

// TestUnderProcdADeviceThatHasJoinedNeedsNoJoinString has lost the file, as an upgrade of the system or a hand may do.
func TestUnderProcdADeviceThatHasJoinedNeedsNoJoinString(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withProcd(m)
	m.Write("/etc/skerry/skerry-edge/identity.json", "{}", 0o600)
	m.Write("/root/install.sh", d.Script, 0o644)
	out, code := m.Run([]string{"SKERRY_URL=" + m.URL}, "busybox", "ash", "/root/install.sh")
	wantRun(t, out, code, 0, "skerry-edge 1.2.3 is online")
}
