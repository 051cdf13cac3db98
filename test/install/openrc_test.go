package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// withOpenRC unpacks it into the machine, and has it take the machine for one that is up.
func withOpenRC(t *testing.T, m *Machine) {
	t.Helper()
	packages, err := filepath.Glob(filepath.Join("..", "..", "bin", "openrc", "*.deb"))
	if err != nil || len(packages) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatalf("no package of OpenRC: %v", err)
		}
		t.Skip("run make deps first")
	}
	for _, p := range packages {
		m.Do(func() error { // /lib and /sbin are links on a merged /usr, and stay so
			return exec.Command("sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"`, "sh", p, m.Path("/")).Run()
		})
	}
	for _, dir := range []string{"starting", "started", "stopping", "inactive", "wasinactive", "failed", "hotplugged", "daemons", "options", "exclusive", "scheduled", "tmp"} {
		m.folder("/run/openrc/" + dir)
	}
	m.Write("/run/openrc/softlevel", "default\n", 0o644)
	m.Run(nil, "sh", "-c", "rm -f /etc/init.d/*") // those of Debian are not for it
}

// TestUnderOpenRCTheServicesKeepTheirWord has the real one run them.
func TestUnderOpenRCTheServicesKeepTheirWord(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", builtPrograms(t))
	m := NewMachine(t, d.Handler())
	m.waits()
	withOpenRC(t, m)
	t.Cleanup(func() {
		if m.t = t; t.Failed() {
			out, _ := m.Run(nil, "sh", "-c", "cat /var/log/skerry*; rc-status --all")
			t.Log(out)
		}
		m.Run(nil, "sh", "-c", "for s in skerry-edge skerry-cluster; do rc-service $s stop; done")
	})
	m.site(d)
	out, code := m.Run(nil, "rc-service", "skerry-edge", "status")
	wantRun(t, out, code, 0, "started")
	out, code = m.Run(nil, "rc-update", "show", "default")
	wantRun(t, out, code, 0, "skerry-edge", "skerry-cluster")

	before := m.pid()
	m.Run(nil, "sh", "-c", "kill -9 "+before)
	m.eventually("another agent is online", func() bool { return m.online() && m.pid() != before })

	good := m.Read("/etc/skerry/edge.yaml")
	m.Write("/etc/skerry/edge.yaml", good+"\nno_such: 1\n", 0o600)
	out, _ = m.Run(nil, "rc-service", "skerry-edge", "restart")
	wantRun(t, out, 0, 0, "no_such (/etc/skerry/edge.yaml:", "the configuration has faults")
	m.Write("/etc/skerry/edge.yaml", good, 0o600)
	m.eventually("it is online with the good one", m.online) // without a hand: it is tried again

	last := m.pid()
	out, code = m.Run(nil, "skerry-uninstall", "--purge")
	wantRun(t, out, code, 0, "has left cluster", "removed /etc/init.d/skerry-edge")
	if out, code := m.Run(nil, "kill", "-0", last); code == 0 {
		t.Errorf("the agent goes on: %s", out)
	}
	if out, _ := m.Run(nil, "rc-update", "show", "default"); strings.Contains(out, "skerry") {
		t.Errorf("still in the runlevel:\n%s", out)
	}
}

// pid is the process of the node agent that answers; empty when none does.
func (m *Machine) pid() string {
	out, _ := m.Run(nil, "skerry-edge", "status")
	if found := regexp.MustCompile(`, pid (\d+),`).FindStringSubmatch(out); found != nil {
		return found[1]
	}
	return ""
}
