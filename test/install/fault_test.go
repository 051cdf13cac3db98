package install

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent/release"
)

const archiveName = "1.2.3/skerry-edge_1.2.3_linux-amd64_lite.tar.gz"

// spoil changes a file of the depot for one test, and returns what puts it back.
func (d *Depot) spoil(name string, change func([]byte) []byte) func() {
	d.t.Helper()
	old, err := os.ReadFile(d.File(name))
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(name, change(bytes.Clone(old)))
	return func() { d.write(name, old) }
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1; return b }
}

// remanifest has the depot sign a manifest of other content.
func (d *Depot) remanifest(change func(*release.Manifest)) func() {
	d.t.Helper()
	raw, err := os.ReadFile(d.File("1.2.3/" + release.ManifestName))
	if err != nil {
		d.t.Fatal(err)
	}
	m, err := release.Decode(raw)
	if err != nil {
		d.t.Fatal(err)
	}
	sig, err := os.ReadFile(d.File("1.2.3/" + release.SignatureName))
	if err != nil {
		d.t.Fatal(err)
	}
	change(&m)
	dir := m.Version
	d.Sign(m)
	if dir != "1.2.3" {
		for _, name := range []string{release.ManifestName, release.SignatureName} {
			moved, err := os.ReadFile(d.File(filepath.Join(dir, name)))
			if err != nil {
				d.t.Fatal(err)
			}
			d.write("1.2.3/"+name, moved)
		}
	}
	return func() { d.write("1.2.3/"+release.ManifestName, raw); d.write("1.2.3/"+release.SignatureName, sig) }
}

// TestNothingIsInstalledWhenSomethingIsWrong is the promise of the installer: a message, and the file system as it was.
func TestNothingIsInstalledWhenSomethingIsWrong(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	other := NewDepot(t)
	st, err := os.Stat(d.File(archiveName))
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/root/install.sh", d.Script, 0o644)
	before := m.Listing()
	same := func([]byte) []byte { return nil }
	script := d.Script
	for _, c := range []struct {
		name  string
		spoil func() func()
		env   []string
		code  int
		want  string
	}{
		{"wrong hash", func() func() { return d.spoil(archiveName, flip(int(st.Size())/2)) }, nil, 1, "is not what the manifest says: its SHA-256 is"},
		{"wrong signature", func() func() {
			return d.spoil("1.2.3/"+release.SignatureName, func(b []byte) []byte {
				return bytes.Replace(b, []byte("\nRW"), []byte("\nRW"), 1)[:0]
			})
		}, nil, 1, "the signature of the manifest is not that of the release key (openssl says:"},
		{"changed manifest", func() func() { return d.spoil("1.2.3/"+release.ManifestName, flip(200)) }, nil, 1, "the signature of the manifest is not that of the release key"},
		{"other key", func() func() { return func() {} }, []string{"SKERRY_RELEASE_KEY=" + other.Key()}, 1, "the signature of the manifest is not that of the release key"},
		{"no such key", func() func() { return func() {} }, []string{"SKERRY_RELEASE_KEY=RWshort"}, 2, "release key RWshort; wanted 56 characters"},
		{"manifest of another version", func() func() { return d.remanifest(func(m *release.Manifest) { m.Version = "1.2.4" }) }, nil, 1, "the manifest that is signed is not that of version 1.2.3"},
		{"another program inside", func() func() {
			return d.remanifest(func(m *release.Manifest) {
				for i := range m.Files {
					if m.Files[i].ProgramSHA256 != "" {
						m.Files[i].ProgramSHA256 = strings.Repeat("0", 64)
					}
				}
			})
		}, nil, 1, "is not what the manifest says"},
		{"not for this target", func() func() { return d.remanifest(func(m *release.Manifest) { m.Files = m.Files[:1] }) }, nil, 1, "release 1.2.3 has no skerry-edge for linux-amd64"},
		{"template", func() func() { d.Script = string(d.source("install.sh")); return func() { d.Script = script } }, nil, 2, "this install.sh holds no release key: it is the template"},
		{"no such version", func() func() { return func() {} }, []string{"SKERRY_VERSION=9.9.9"}, 1, "/9.9.9/manifest.json: "},
		{"no such channel", func() func() { return func() {} }, []string{"SKERRY_CHANNEL=nightly"}, 1, "/channel/nightly: "},
		{"empty channel", func() func() { return d.spoil("channel/stable", same) }, nil, 1, `channel stable names the version ""`},
		{"no server", func() func() { return func() {} }, []string{"SKERRY_URL=http://127.0.0.1:1"}, 1, "cannot fetch http://127.0.0.1:1/channel/stable"},
		{"no URL", func() func() { return func() {} }, []string{"SKERRY_URL="}, 2, "no release server; set SKERRY_URL"},
		{"URL of another kind", func() func() { return func() {} }, []string{"SKERRY_URL=ftp://x"}, 2, "SKERRY_URL=ftp://x; wanted http:// or https://"},
		{"flag", func() func() { return func() {} }, []string{"INSTALL_SKERRY_SKIP_START=maybe"}, 2, "INSTALL_SKERRY_SKIP_START=maybe; wanted 1 or nothing"},
		{"join string", func() func() { return func() {} }, []string{"SKERRY_JOIN=a b"}, 2, "SKERRY_JOIN has a character that no join string has"},
		{"path", func() func() { return func() {} }, []string{"INSTALL_SKERRY_BIN_DIR=bin"}, 2, "INSTALL_SKERRY_BIN_DIR=bin; wanted an absolute path"},
		{"quote", func() func() { return func() {} }, []string{"INSTALL_SKERRY_DIR=/etc/x';id;'"}, 2, "a path has a character besides"},
		{"no such bundle", func() func() { return func() {} }, []string{"INSTALL_SKERRY_OFFLINE=/none.tar"}, 2, "/none.tar: there is no such file"},
		{"target", func() func() { return func() {} }, []string{"INSTALL_SKERRY_TARGET=linux-vax"}, 2, "INSTALL_SKERRY_TARGET=linux-vax; wanted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.t = t
			restore := c.spoil()
			m.Write("/root/install.sh", d.Script, 0o644)
			here := m.Listing()
			out, code := m.install(d, shells[0], c.env)
			restore()
			wantRun(t, out, code, c.code, c.want)
			m.Same(here)
		})
	}
	m.t = t
	m.Write("/root/install.sh", d.Script, 0o644)
	m.Same(before)
	out, code := m.install(d, shells[0], nil)
	wantRun(t, out, code, 0, "is online") // so that the above is not for another reason
}

// TestATruncatedFileIsRefusedWhereverItEnds has the server hold, and so promise, too little of the archive.
func TestATruncatedFileIsRefusedWhereverItEnds(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	st, err := os.Stat(d.File(archiveName))
	if err != nil {
		t.Fatal(err)
	}
	for _, shell := range [][]string{shells[0], shells[2]} {
		m := NewMachine(t, d.Handler())
		if shell[0] == "busybox" {
			m.Remove("curl")
		}
		m.Write("/root/install.sh", d.Script, 0o644)
		before := m.Listing()
		for range 10 {
			n := rand.Int64N(st.Size())
			restore := d.spoil(archiveName, func(b []byte) []byte { return b[:n] })
			out, code := m.install(d, shell, nil)
			restore()
			wantRun(t, out, code, 1, fmt.Sprintf("has %d bytes; wanted %d", n, st.Size()), "nothing was installed or changed")
			m.Same(before)
		}
	}
}

// cutter breaks the connection after some bytes of each answer, and counts who came back for the rest.
type cutter struct {
	http.Handler
	after   int
	resumed atomic.Int64
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, ".tar.gz") {
		c.Handler.ServeHTTP(w, r)
		return
	}
	if r.Header.Get("Range") != "" {
		c.resumed.Add(1)
	}
	c.Handler.ServeHTTP(&cut{ResponseWriter: w, left: c.after}, r)
}

type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(b []byte) (int, error) {
	if len(b) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func TestADownloadThatBreaksOffIsResumed(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	st, err := os.Stat(d.File(archiveName))
	if err != nil {
		t.Fatal(err)
	}
	for name, shell := range map[string][]string{"curl": shells[0], "wget": shells[0], "busybox's wget": shells[2]} {
		t.Run(name, func(t *testing.T) {
			c := &cutter{Handler: d.Handler(), after: int(st.Size())/3 + 1}
			m := NewMachine(t, c)
			if name != "curl" {
				m.Remove("curl")
			}
			out, code := m.install(d, shell, nil)
			wantRun(t, out, code, 0, "done")
			if n := c.resumed.Load(); n < 1 {
				t.Errorf("nobody asked for the rest")
			}
		})
	}
	m := NewMachine(t, &cutter{Handler: d.Handler(), after: 100}) // too little to get anywhere in five times
	m.Write("/root/install.sh", d.Script, 0o644)
	before := m.Listing()
	out, code := m.install(d, shells[0], nil)
	wantRun(t, out, code, 1, "the connection breaks after", "of "+strconv.FormatInt(st.Size(), 10))
	m.Same(before)
}

func TestAnInstallerThatIsCutOffDoesNothing(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/root/install.sh", "", 0o644)
	body := strings.TrimRight(d.Script, "\n")
	for _, shell := range shells {
		for i := range 12 {
			n := rand.IntN(len(body))
			if i == 0 {
				n = len(body) - 1 // but for the last brace
			}
			m.Write("/root/install.sh", body[:n], 0o644)
			before := m.Listing()
			if out, code := m.Run([]string{"SKERRY_URL=" + m.URL}, append(append([]string{}, shell...), "/root/install.sh")...); strings.Contains(out, "skerry: ") {
				t.Errorf("%s: of %d bytes, %d did something: %d %s", shell[0], len(body), n, code, out)
			}
			m.Same(before)
		}
	}
}

func TestWhatCannotBeWrittenLeavesEverythingAsItWas(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for name, c := range map[string]struct {
		at, options string
		flags       uintptr
		want        string
	}{
		"full disk, seen before":   {"/usr/local/bin", "size=8k", 0, "are free"},
		"full disk, while writing": {"/etc/skerry", "size=4k,nr_inodes=3", 0, "cannot write /etc/skerry/edge."},
		"read-only programs":       {"/usr/local/bin", "", unix.MS_RDONLY, "cannot write /usr/local/bin/skerry-edge: "},
		"read-only configuration":  {"/etc/skerry", "", unix.MS_RDONLY, "cannot write /etc/skerry/edge.join: "},
		"read-only units":          {"/etc/systemd/system", "", unix.MS_RDONLY, "cannot write /etc/systemd/system/skerry-edge.service: "},
	} {
		for _, shell := range [][]string{shells[0], shells[2]} {
			t.Run(name+", "+shell[0], func(t *testing.T) {
				m := NewMachine(t, d.Handler())
				withSystemd(m)
				m.Mount(c.at, c.options, c.flags)
				if strings.Contains(c.options, "nr_inodes") {
					m.Write(c.at+"/filler", strings.Repeat("x", 4096), 0o644)
				}
				m.Write("/root/install.sh", d.Script, 0o644)
				before := m.Listing()
				out, code := m.install(d, shell, nil)
				wantRun(t, out, code, 1, c.want, "nothing was installed or changed")
				m.Same(before)
			})
		}
	}
}

func TestEachVerifierTellsGoodFromBad(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	m.Write("/root/install.sh", d.Script, 0o644)
	before := m.Listing()
	for _, tool := range []string{"openssl", "minisign", "signify-openbsd", "skerry-verify"} {
		if tool != "skerry-verify" {
			if _, err := exec.LookPath(tool); err != nil {
				t.Fatal(err) // test/deps.sh installs it
			}
		}
		restore := d.spoil("1.2.3/"+release.ManifestName, flip(150))
		out, code := m.install(d, shells[0], []string{"INSTALL_SKERRY_VERIFIER=" + tool, "INSTALL_SKERRY_DRY_RUN=1"})
		restore()
		wantRun(t, out, code, 1, "the signature of the manifest is not that of the release key ("+tool+" says:")
		out, code = m.install(d, shells[0], []string{"INSTALL_SKERRY_VERIFIER=" + tool, "INSTALL_SKERRY_DRY_RUN=1"})
		wantRun(t, out, code, 0, "signature checked with "+tool)
		m.Same(before)
	}
	out, code := m.install(d, shells[0], []string{"INSTALL_SKERRY_VERIFIER=none"})
	wantRun(t, out, code, 1, "nothing here can check a signature")
	m.Same(before)
}

// TestWithoutToolsThePinnedVerifierIsUsedAndNoOther has an openssl that is too old, and one that says yes to everything.
func TestWithoutToolsThePinnedVerifierIsUsedAndNoOther(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	m.Remove("minisign", "signify-openbsd", "signify", "usign")
	m.Write("/root/install.sh", d.Script, 0o644)
	for _, openssl := range map[string]string{"old": "#!/bin/sh\necho 'pkeyutl: Option unknown: -rawin' >&2\nexit 1\n", "yes": "#!/bin/sh\n[ $1 = base64 ] && exec busybox base64 -d\nexit 0\n"} {
		m.Write("/usr/bin/openssl", openssl, 0o755)
		before := m.Listing()
		out, code := m.install(d, shells[0], []string{"INSTALL_SKERRY_DRY_RUN=1"})
		wantRun(t, out, code, 0, "signature checked with skerry-verify")
		m.Same(before)
		restore := d.spoil("1.2.3/skerry-verify_linux-amd64", flip(5000))
		out, code = m.install(d, shells[0], nil)
		restore()
		wantRun(t, out, code, 1, "the verifier skerry-verify_linux-amd64 has another hash than this script says")
		m.Same(before)
	}
}
