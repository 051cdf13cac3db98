package install

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/test/system"
)

// booted is a machine with a running systemd, on which waits are waited for.
func booted(t *testing.T, d *Depot) *Machine {
	m := NewMachine(t, d.Handler())
	m.waits()
	m.Boot()
	t.Cleanup(func() {
		if m.t = t; t.Failed() {
			out, _ := m.Run(nil, "journalctl", "-o", "short-precise", "--no-pager")
			t.Log(out)
		}
	})
	return m
}

// waits has the machine wait when it is told to, as NewMachine has it not.
func (m *Machine) waits() {
	m.t.Helper()
	m.Write("/usr/bin/sleep", "#!/bin/sh\nexec busybox sleep \"$@\"\n", 0o755)
}

// ask returns a property of a service.
func (m *Machine) ask(service, property string) string {
	m.t.Helper()
	out, code := m.Run(nil, "systemctl", "show", "--value", "-p", property, service)
	wantRun(m.t, out, code, 0)
	return strings.TrimSpace(out)
}

func (m *Machine) becomes(service, property, want string) {
	m.t.Helper()
	m.eventually(fmt.Sprintf("%s of %s is %s", property, service, want), func() bool { return m.ask(service, property) == want })
}

func (m *Machine) eventually(what string, ok func() bool) {
	m.t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > 3*time.Minute {
			m.t.Fatalf("waited three minutes in vain until %s", what)
		}
	}
}

func (m *Machine) online() bool {
	out, code := m.Run(nil, "skerry-edge", "status")
	return code == 0 && strings.Contains(out, "link         up")
}

// site installs a cluster agent and a device, as their users do.
func (m *Machine) site(d *Depot) {
	m.t.Helper()
	out, code := m.install(d, shells[0], []string{"SKERRY_ADVERTISE=127.0.0.1", "SKERRY_JOIN=", "INSTALL_SKERRY_WAIT=240"}, "cluster")
	wantRun(m.t, out, code, 0, "is online")
	out, code = m.Run([]string{"SKERRY_CONFIG=/var/lib/skerry-cluster/admin.yaml"}, "skerry", "token", "create")
	join := regexp.MustCompile(`skerry1\.[A-Za-z0-9_-]+`).FindString(out)
	if code != 0 || join == "" {
		m.t.Fatalf("token create: %d\n%s", code, out)
	}
	out, code = m.install(d, shells[0], []string{"SKERRY_JOIN=" + join, "INSTALL_SKERRY_WAIT=240"})
	wantRun(m.t, out, code, 0, "is online")
}

// TestUnderSystemdTheServicesKeepTheirWord has the real one run them: what it is asked for in the units is what happens.
func TestUnderSystemdTheServicesKeepTheirWord(t *testing.T) {
	t.Parallel()
	programs := builtPrograms(t)
	d := NewDepot(t)
	programs["skerry-edge:lite"] = edgeOf(t, d, "1.2.3")
	d.Release("1.2.3", programs)
	m := booted(t, d)
	m.site(d)

	t.Run("they are ready when they say so, and enabled", func(t *testing.T) {
		for _, s := range []string{"skerry-cluster", "skerry-edge"} {
			for property, want := range map[string]string{"ActiveState": "active", "UnitFileState": "enabled", "StatusText": "running", "NRestarts": "0"} {
				if got := m.ask(s, property); got != want {
					t.Errorf("%s: %s is %q; wanted %q", s, property, got, want)
				}
			}
		}
	})
	t.Run("the cluster agent is a user without rights", func(t *testing.T) {
		status, _ := m.Run(nil, "cat", "/proc/"+m.ask("skerry-cluster", "MainPID")+"/status")
		if uid := regexp.MustCompile(`Uid:\t(\d+)`).FindStringSubmatch(status); uid == nil || uid[1] == "0" || !strings.Contains(status, "CapBnd:\t0000000000000000") {
			t.Errorf("its process:\n%s", status)
		}
	})
	t.Run("after a crash the device is back", func(t *testing.T) {
		m.Run(nil, "systemctl", "kill", "-s", "KILL", "skerry-edge")
		m.becomes("skerry-edge", "NRestarts", "1")
		m.eventually("it is online", m.online)
	})
	t.Run("one that hangs is ended and begun again", func(t *testing.T) {
		m.Write("/etc/systemd/system/skerry-edge.service.d/soon.conf", "[Service]\nWatchdogSec=2s\n", 0o644)
		m.Run(nil, "systemctl", "daemon-reload")
		m.Run(nil, "systemctl", "restart", "skerry-edge")
		m.eventually("it is online", m.online)
		m.Run(nil, "systemctl", "kill", "-s", "STOP", "--kill-who=main", "skerry-edge")
		m.becomes("skerry-edge", "NRestarts", "1")
		out, _ := m.Run(nil, "journalctl", "-u", "skerry-edge", "--no-pager")
		wantRun(t, out, 0, 0, "Watchdog timeout")
		m.eventually("it is online", m.online)
		m.Do(func() error { return os.RemoveAll(m.Path("/etc/systemd/system/skerry-edge.service.d")) })
		m.Run(nil, "systemctl", "daemon-reload")
	})
	t.Run("a faulty configuration is told and not tried again", func(t *testing.T) {
		good := m.Read("/etc/skerry/edge.yaml")
		m.Write("/etc/skerry/edge.yaml", good+"\nno_such: 1\n", 0o600)
		m.Run(nil, "systemctl", "restart", "skerry-edge")
		m.becomes("skerry-edge", "ActiveState", "failed")
		if got := m.ask("skerry-edge", "ExecMainStatus") + " " + m.ask("skerry-edge", "NRestarts"); got != "2 0" {
			t.Errorf("exit code and restarts are %s; wanted 2 0", got)
		}
		out, _ := m.Run(nil, "journalctl", "-u", "skerry-edge", "-n", "8", "--no-pager")
		wantRun(t, out, 0, 0, "no_such", "/etc/skerry/edge.yaml")
		m.Write("/etc/skerry/edge.yaml", good, 0o600)
		out, code := m.Run(nil, "systemctl", "restart", "skerry-edge")
		wantRun(t, out, code, 0)
		m.eventually("it is online", m.online)
	})
	t.Run("the journal knows what is a warning", func(t *testing.T) {
		m.Run(nil, "systemctl", "stop", "skerry-cluster")
		m.eventually("the device warns", func() bool {
			out, _ := m.Run(nil, "journalctl", "-u", "skerry-edge", "-p", "warning", "-o", "cat", "--no-pager")
			return strings.Contains(out, "level=WARN") && !strings.Contains(out, "level=INFO")
		})
		if got := m.ask("skerry-cluster", "Result"); got != "success" {
			t.Errorf("the cluster agent stopped with %s", got)
		}
		m.Run(nil, "systemctl", "start", "skerry-cluster")
		m.eventually("the device is online", m.online)
	})
	t.Run("an update takes the place of what runs", func(t *testing.T) {
		d.Release("1.3.0", map[string][]byte{"skerry-edge:lite": edgeOf(t, d, "1.3.0")})
		m.copyIn(filepath.Join(d.Dir, "1.3.0"), "/root/1.3.0")
		admin := []string{"SKERRY_CONFIG=/var/lib/skerry-cluster/admin.yaml"}
		out, code := m.Run(admin, "skerry", "release", "import", "/root/1.3.0")
		wantRun(t, out, code, 0)
		out, code = m.Run(admin, "sh", "-c", "skerry run agent.update --on $(skerry get nodes -o name) --arg version=1.3.0 --deadline 2m --wait")
		wantRun(t, out, code, 0)
		runs := func() bool {
			out, _ := m.Run(nil, "skerry-edge", "status")
			return strings.Contains(out, "1.3.0") && m.online()
		}
		m.eventually("the new one runs", runs)
		if got := m.ask("skerry-edge", "NRestarts"); got != "0" {
			t.Errorf("systemd had to restart it %s times", got)
		}
		begun := time.Now()
		out, code = m.Run(nil, "systemctl", "restart", "skerry-edge")
		wantRun(t, out, code, 0)
		if took := time.Since(begun); took > 25*time.Second { // after 30 s systemd would have killed it
			t.Errorf("a restart took %s", took)
		}
		m.eventually("the new one runs after a restart", runs)
	})
	t.Run("uninstalling leaves nothing that runs", func(t *testing.T) {
		out, code := m.Run(nil, "skerry-uninstall", "--purge")
		wantRun(t, out, code, 0, "has left cluster", "removed /var/lib/skerry-edge")
		out, _ = m.Run(nil, "systemctl", "list-units", "--all", "--plain", "--no-legend", "skerry-*")
		if strings.TrimSpace(out) != "" {
			t.Errorf("units are left:\n%s", out)
		}
		out, _ = m.Run(nil, "pgrep", "-a", "skerry")
		if strings.TrimSpace(out) != "" {
			t.Errorf("processes are left:\n%s", out)
		}
	})
}

// TestUnderSystemdTheClusterAgentReadsTheCredentialOfItsAccount has an API server hear it: the file is root's, and the agent is not.
func TestUnderSystemdTheClusterAgentReadsTheCredentialOfItsAccount(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", builtPrograms(t))
	m := booted(t, d)
	withK3s(m)
	heard := make(chan string, 1)
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case heard <- r.Header.Get("Authorization"):
		default: // once is enough
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	if err := api.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	api.Listener = m.Listen("127.0.0.1:6443")
	api.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	api.StartTLS()
	defer api.Close()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}))
	m.Write("/etc/rancher/k3s/k3s.yaml", "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: "+ca+"\n    server: https://127.0.0.1:6443\n", 0o600)
	out, code := m.install(d, shells[0], []string{"SKERRY_ADVERTISE=127.0.0.1", "SKERRY_JOIN=", "INSTALL_SKERRY_WAIT=240"}, "cluster")
	wantRun(t, out, code, 0, "is online")
	select {
	case got := <-heard:
		if got != "Bearer token-of-the-account" {
			t.Errorf("it says %q to the API server", got)
		}
	case <-time.After(time.Minute):
		t.Error("it has not asked the API server for a minute")
	}
}

// edgeOf builds the node agent as a release of that version has it, which trusts the depot's key and needs no word of it in its configuration.
func edgeOf(t *testing.T, d *Depot, version string) []byte {
	t.Helper()
	program, err := system.BuildEdge(t.Context(), t.TempDir(), version, "lite", d.Key())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// copyIn copies a directory into the machine, without those below it.
func (m *Machine) copyIn(from, to string) {
	m.t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			m.t.Fatal(err)
		}
		m.Write(filepath.Join(to, e.Name()), string(raw), 0o755)
	}
}

// TestUnderSystemdContainersHaveWhatTheyNeed has the tests of the process runtime run as the service does, with all of its hardening. A container that
// wants all rights gets those that the service has.
func TestUnderSystemdContainersHaveWhatTheyNeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, build := range [][]string{{"test", "-c", "-o", filepath.Join(dir, "runtime.test")}, {"build", "-o", filepath.Join(dir, "payload"), "./testdata/payload"}} {
		cmd := exec.Command("go", build...)
		cmd.Dir, cmd.Env = filepath.Join("..", "..", "edge", "runtime", "process"), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(build, " "), err, out)
		}
	}
	d := NewDepot(t)
	m := booted(t, d)
	m.copyIn(dir, "/usr/local/lib/skerry-test")
	unit := string(d.source("systemd/skerry-edge.service"))
	for from, to := range map[string]string{
		"Type=notify": "Type=exec", "WatchdogSec=60s": "", "Restart=always": "Restart=no", "Directory=skerry-edge": "Directory=runtime-test",
		"ExecStart=/usr/local/bin/skerry-edge run": "ExecStart=/usr/local/lib/skerry-test/runtime.test -test.v -test.skip OnlyTheRights",
	} {
		if !strings.Contains(unit, from) {
			t.Fatalf("the unit has no %q", from)
		}
		unit = strings.ReplaceAll(unit, from, to)
	}
	m.Write("/etc/systemd/system/runtime-test.service", unit+"[Service]\nEnvironment=CI=true PATH=/usr/sbin:/usr/bin:/sbin:/bin "+
		"TMPDIR=/var/lib/runtime-test PROCESS_PAYLOAD=/usr/local/lib/skerry-test/payload\n", 0o644)
	m.Run(nil, "systemctl", "daemon-reload")
	out, code := m.Run(nil, "systemctl", "start", "runtime-test")
	wantRun(t, out, code, 0)
	for begun := time.Now(); m.ask("runtime-test", "ActiveState") == "active" && time.Since(begun) < 5*time.Minute; time.Sleep(time.Second) {
	}
	if got := m.ask("runtime-test", "Result"); got != "success" {
		t.Errorf("the runtime's tests: %s", got)
	}
	out, _ = m.Run(nil, "journalctl", "-u", "runtime-test", "-o", "cat", "--no-pager")
	if passed := strings.Count(out, "--- PASS"); passed < 10 || strings.Contains(out, "--- FAIL") {
		t.Errorf("%d have passed:\n%s", passed, out)
	}
}

// folder makes a directory.
func (m *Machine) folder(path string) {
	m.t.Helper()
	m.Do(func() error { return os.MkdirAll(m.Path(path), 0o755) })
}
