package install

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/agent/release"
)

func TestAConfigurationThatNobodyHasChangedIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	env := []string{"SKERRY_NODE=pump-3", "SKERRY_LABELS=site=harbour,mlsysops.eu/layer=far_edge"}
	out, code := m.install(d, shells[0], env)
	wantRun(t, out, code, 0)
	given := []string{"\nnode: \"pump-3\"\n", "\nlabels: [\"site=harbour\",\"mlsysops.eu/layer=far_edge\"]\n", "\njoin: \"@/etc/skerry/edge.join\"\n", "\ndir: /var/lib/skerry-edge\n"}
	has := func(path string, wanted ...string) {
		t.Helper()
		for _, w := range wanted {
			if got := m.Read(path); !strings.Contains(got, w) {
				t.Errorf("%s has no %q:\n%s", path, w, got)
			}
		}
	}
	has("/etc/skerry/edge.yaml", append(given, "\n# defaults of 1.2.3\n")...)
	before := m.Listing()
	out, code = m.install(d, shells[2], nil)
	wantRun(t, out, code, 0)
	m.Same(before)

	d.Release("1.3.0", nil)
	out, code = m.install(d, shells[2], nil)
	wantRun(t, out, code, 0, "wrote /etc/skerry/edge.yaml\n")
	has("/etc/skerry/edge.yaml", append(given, "\n# defaults of 1.3.0\n")...)
	if got := m.Read("/etc/skerry/edge.yaml.new"); got != "" {
		t.Errorf("there is an edge.yaml.new:\n%s", got)
	}

	// What is told later goes beside it: a node keeps its name.
	out, code = m.install(d, shells[0], []string{"SKERRY_NODE=pump-4"})
	wantRun(t, out, code, 0, "/etc/skerry/edge.yaml stays as it is, in what earlier runs were told")
	has("/etc/skerry/edge.yaml", given...)
	has("/etc/skerry/edge.yaml.new", "\nnode: \"pump-4\"\n", given[1])
	m.delete("/etc/skerry/edge.yaml.new")

	changed := strings.Replace(m.Read("/etc/skerry/edge.yaml"), "mode: standalone", "mode: mine", 1)
	m.Write("/etc/skerry/edge.yaml", changed, 0o644)
	d.Release("1.4.0", nil)
	out, code = m.install(d, shells[0], nil)
	wantRun(t, out, code, 0, "/etc/skerry/edge.yaml stays as it is; edge.yaml.new is how this version would have it")
	m.wantFile("/etc/skerry/edge.yaml", changed)
	has("/etc/skerry/edge.yaml.new", "\n# defaults of 1.4.0\n")
}

func TestSettingsOfANodeAreJudgedAtOnce(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	m.Write("/root/install.sh", d.Script, 0o644)
	m.Write("/root/empty", "\n", 0o600)
	before := m.Listing()
	for setting, want := range map[string]string{
		"SKERRY_NODE=Pump":                       "SKERRY_NODE=Pump; wanted",
		"SKERRY_NODE=" + strings.Repeat("a", 64): "wanted at most 63",
		"SKERRY_NODE=-a":                         "SKERRY_NODE=-a; wanted",
		"SKERRY_LABELS=site":                     `SKERRY_LABELS has "site"; wanted key=value`,
		"SKERRY_LABELS=a=b=c":                    `SKERRY_LABELS has "a=b=c"; wanted key=value`,
		"SKERRY_LABELS=a=b c":                    "SKERRY_LABELS=a=b c; wanted key=value with commas",
		"SKERRY_JOIN_FILE=/root/none":            "SKERRY_JOIN_FILE: ",
		"SKERRY_JOIN_FILE=/root/empty":           "SKERRY_JOIN_FILE=/root/empty holds no join string",
		"SKERRY_JOIN_FILE=-":                     "there is none; wanted a file",
	} {
		out, code := m.Run([]string{"SKERRY_URL=" + m.URL, setting}, "setsid", "-w", "dash", "/root/install.sh")
		wantRun(t, out, code, 2, want)
	}
	out, code := m.install(d, shells[0], []string{"SKERRY_JOIN_FILE=/root/empty"})
	wantRun(t, out, code, 2, "SKERRY_JOIN and SKERRY_JOIN_FILE are both set")
	m.Same(before)
}

func TestTheJoinStringIsReadFromAFileOrTheTerminal(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for i, shell := range shells {
		m := NewMachine(t, d.Handler())
		m.Write("/root/install.sh", d.Script, 0o644)
		m.Write("/root/join", joinString[:10]+"\n  "+joinString[10:]+"\r\n", 0o600)
		out, code := m.Run([]string{"SKERRY_URL=" + m.URL, "SKERRY_JOIN_FILE=/root/join"}, append(append([]string{}, shell...), "/root/install.sh")...)
		wantRun(t, out, code, 0)
		m.wantFile("/etc/skerry/edge.join", joinString+"\n")
		if i == 1 {
			continue
		}
		m.delete("/etc/skerry/edge.join")
		// The script comes by a pipe, as from curl, and a terminal is typed into.
		line := "cat /root/install.sh | SKERRY_URL=" + m.URL + " SKERRY_JOIN_FILE=- " + strings.Join(shell, " ")
		out, code = m.Run(nil, "sh", "-c", "{ busybox sleep 1; echo "+joinString+"; busybox sleep 1; } | script -qec '"+line+"' /dev/null")
		wantRun(t, out, code, 0, "join string (it is not shown): ")
		m.wantFile("/etc/skerry/edge.join", joinString+"\n")
	}
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// alsoFor has the release 1.2.3 have the node agent for another target.
func (d *Depot) alsoFor(target string, content []byte) {
	d.t.Helper()
	raw, err := os.ReadFile(d.File("1.2.3/" + release.ManifestName))
	if err != nil {
		d.t.Fatal(err)
	}
	m, err := release.Decode(raw)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range m.Files {
		if f.Program == "skerry-edge" && f.Kind == release.KindArchive {
			f.Target = target
			f.ProgramSHA256, f.ProgramSize = hashOf(content), int64(len(content))
			m.Files = append(m.Files, d.put("1.2.3", strings.Replace(f.Name, "linux-amd64", target, 1), d.archive("skerry-edge", content), f))
			break
		}
	}
	d.Sign(m)
}

func TestWhatDoesNotRunOnThisMachineIsForAnImageAlone(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	d.alsoFor("linux-arm64", []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00 of another processor"))
	d.alsoFor("linux-386", []byte(strings.NewReplacer("@NAME@", "skerry-edge", "@VERSION@", "1.2.3").Replace(fake)))
	m := NewMachine(t, d.Handler())
	m.Write("/root/install.sh", d.Script, 0o644)
	before := m.Listing()
	for _, shell := range shells {
		out, code := m.install(d, shell, []string{"INSTALL_SKERRY_TARGET=linux-arm64"})
		wantRun(t, out, code, 1, "skerry-edge for linux-arm64 does not run on this machine", "nothing was installed")
		m.Same(before)
	}
	out, code := m.install(d, shells[0], []string{"INSTALL_SKERRY_TARGET=linux-arm64", "DESTDIR=/srv/image"})
	wantRun(t, out, code, 0, "wrote /srv/image/usr/local/bin/skerry-edge")
	out, code = m.install(d, shells[0], []string{"INSTALL_SKERRY_TARGET=linux-386"}) // which runs here
	wantRun(t, out, code, 0, "wrote /usr/local/bin/skerry-edge")
	if got := m.Read("/etc/skerry/edge.yaml"); !strings.Contains(got, "# defaults of 1.2.3") {
		t.Errorf("edge.yaml is\n%s", got)
	}
}

func TestTheCommandLineIsInstalledWhereItsUserMayWrite(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	m.Write("/root/install.sh", d.Script, 0o644)
	m.Run(nil, "sh", "-c", "chmod 0755 /root && mkdir -m 0777 /home/u")
	user := []string{"setpriv", "--reuid", "65534", "--clear-groups", "dash", "/root/install.sh"}
	out, code := m.Run([]string{"SKERRY_URL=" + m.URL, "INSTALL_SKERRY_BIN_DIR=/home/u/bin"}, append(user, "cli")...)
	wantRun(t, out, code, 0, "wrote /home/u/bin/skerry\n", "wrote /home/u/bin/skerry-uninstall\n")
	out, code = m.Run([]string{"SKERRY_URL=" + m.URL}, append(user, "cli")...)
	wantRun(t, out, code, 2, "installing to /usr/local/bin takes root: … | sudo SKERRY_URL="+m.URL+" sh -s - cli; sudo drops settings")
	out, code = m.Run([]string{"SKERRY_URL=" + m.URL, "INSTALL_SKERRY_BIN_DIR=/home/u/bin"}, user...)
	wantRun(t, out, code, 2, "installing to /home/u/bin takes root: … | sudo SKERRY_URL="+m.URL+" sh; sudo drops settings")
}

func TestWhoAsksForHelpGetsIt(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/root/install.sh", d.Script, 0o644)
	before := m.Listing()
	for _, shell := range shells {
		for _, word := range []string{"--help", "-h", "help"} {
			out, code := m.install(d, shell, nil, word)
			wantRun(t, out, code, 0, "usage: sh install.sh [edge]", "skerry-uninstall [edge|cluster|cli] [--purge]")
		}
		out, code := m.install(d, shell, nil, "uninstall", "--purge")
		wantRun(t, out, code, 2, "to uninstall: skerry-uninstall [edge|cluster|cli] [--purge]")
	}
	m.Same(before)
	out, code := m.install(d, shells[0], []string{"SUDO_USER=u"}, "cluster")
	wantRun(t, out, code, 0, "next: sudo SKERRY_CONFIG=/var/lib/skerry-cluster/admin.yaml /usr/local/bin/skerry token create")
}

// TestAPackageSaysWhatIsToBeDone runs its script as dpkg and rpm do.
func TestAPackageSaysWhatIsToBeDone(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	m := NewMachine(t, nil)
	withSystemd(m)
	m.Write("/root/postinst", strings.ReplaceAll(string(d.source(filepath.Join("package", "systemd-postinstall.sh"))), "@PROGRAM@", "skerry-edge"), 0o755)
	m.Run(nil, "sh", "-c", "echo x >/usr/bin/skerry-edge && touch -d 2020-01-01 /usr/bin/skerry-edge")
	age := func() string {
		out, _ := m.Run(nil, "stat", "-c", "%y", "/usr/bin/skerry-edge")
		return out[:4]
	}
	out, code := m.Run(nil, "/root/postinst", "1") // rpm, which watches over times
	wantRun(t, out, code, 0, "skerry-edge is not started before it is configured", "docs/install.md")
	if age() != "2020" {
		t.Error("the program has another time")
	}
	m.Write("/run/enabled", "", 0o644)
	m.Write("/etc/systemd/system/skerry-edge.service", "[Unit]\n", 0o644)
	out, code = m.Run(nil, "/root/postinst", "configure", "1.2.3")
	wantRun(t, out, code, 0, "/etc/systemd/system/skerry-edge.service hides this package's")
	if age() == "2020" || strings.Contains(out, "configured") {
		t.Errorf("the same package once more does not count: %s\n%s", age(), out)
	}
}
