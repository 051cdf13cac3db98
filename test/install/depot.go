package install

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/agent/release/shelf"
)

// Depot is a directory of releases, laid out as make release does, with programs that are scripts unless a test gives others.
type Depot struct {
	t       *testing.T
	Dir     string
	private ed25519.PrivateKey
	Script  string // install.sh, stamped
	Small   bool   // releases have the node agent as tar.xz too
	Mark    string // put to the end of service files and uninstall.sh: another release has others
}

const target = "linux-amd64"

// fake stands for every program: it knows what install.sh asks. Random bytes after its end make it large and hard to compress.
const fake = `#!/bin/sh
case $1 in
version) echo "@NAME@ @VERSION@ (commit c, go1.26.8 linux/amd64)" ;;
config)
	[ "${2:-}" = --defaults ] || [ ! -e /run/faulty ] || exit 2
	[ "${2:-}" = --defaults ] || [ ! -e /run/missing ] || { echo "  command.exec[0].user \"app\" ($3:9): wanted a user of this machine" >&2; exit 3; }
	case $* in *--defaults*) printf '# defaults of @VERSION@\nnode: ""\nlabels: []\njoin: ""\nadvertise: []\ndir: /var/lib/@NAME@\nmode: standalone\nkube:\n  kubeconfig: ""\n'; exit ;; esac
	for argument in "$@"; do
		case $argument in
		/*) ! grep -qs "^refused_by_@VERSION@:" "$argument" || { echo "  refused_by_@VERSION@ ($argument:9): wanted a key that config --defaults lists" >&2; exit 2; } ;;
		@*) ! grep -qs cut "${argument#@}" || { echo "join string is damaged; copy it again" >&2; exit 2; }
			! grep -qs elsewhere "${argument#@}" || { echo "the join string is for another cluster; to move it: skerry-edge leave" >&2; exit 2; } ;;
		esac
	done ;;
rbac) echo "# rights of @VERSION@" ;;
status) [ -e /run/online ] && printf '{\n  "node": "pump-3",\n  "version": "%s",\n  "link": {\n    "connected": true\n  }\n}\n' "$(cat /run/version 2>/dev/null || echo @VERSION@)" ;;
doctor) echo "token: the cluster agent says that it has expired; cure: skerry token create" && exit 15 ;;
leave) [ ! -e /run/cut ] || { echo "skerry-edge: leave: ask 192.0.2.1:8443: i/o timeout; who may, removes it there with: skerry node remove pump-3" >&2; exit 1; }; echo "node pump-3 has left cluster harbour" ;;
get) [ -e /run/online ] && [ "$SKERRY_CONFIG" = "$(cat /run/asked 2>/dev/null || echo "$SKERRY_CONFIG")" ] ;;
run) : >/run/online ;;
esac
exit $?
`

// NewDepot makes an empty one.
func NewDepot(t *testing.T) *Depot {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Depot{t: t, Dir: t.TempDir(), private: private}
}

// Handler serves it.
func (d *Depot) Handler() http.Handler {
	root, err := os.OpenRoot(d.Dir)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { root.Close() })
	return shelf.Handler(root)
}

// Key is what install.sh trusts.
func (d *Depot) Key() string { return release.KeyOf(d.private.Public().(ed25519.PublicKey)).String() }

// Release adds one, and the channel stable goes to it. programs are by name, with the variant of skerry-edge after a colon; nil: fakes.
func (d *Depot) Release(version string, programs map[string][]byte) {
	d.t.Helper()
	if programs == nil {
		programs = map[string][]byte{}
		for _, name := range []string{"skerry-edge:lite", "skerry-cluster", "skerry"} {
			padding := make([]byte, 20<<10)
			_, _ = rand.Read(padding) // never fails
			plain, _, _ := strings.Cut(name, ":")
			programs[name] = append([]byte(strings.NewReplacer("@NAME@", plain, "@VERSION@", version).Replace(fake)), padding...)
		}
	}
	m := release.Manifest{Format: release.Format, Version: version, Commit: "c", Built: time.Unix(1790000000, 0).UTC()}
	verifier := d.verifier()
	m.Files = append(m.Files, d.put(version, "skerry-verify_"+target, verifier, release.File{Kind: release.KindVerify}))
	for name, content := range programs {
		plain, variant, _ := strings.Cut(name, ":")
		file := plain + "_" + version + "_" + target
		if variant != "" {
			file += "_" + variant
		}
		sum := sha256.Sum256(content)
		m.Files = append(m.Files, d.put(version, file+".tar.gz", d.archive(plain, content), release.File{Kind: release.KindArchive, Program: plain,
			Variant: variant, Target: target, ProgramSHA256: hex.EncodeToString(sum[:]), ProgramSize: int64(len(content))}))
		if d.Small && plain == "skerry-edge" {
			m.Files = append(m.Files, d.put(version, file+".tar.xz", d.small(plain, content), release.File{Kind: release.KindSmall, Program: plain,
				Variant: variant, Target: target, ProgramSHA256: hex.EncodeToString(sum[:]), ProgramSize: int64(len(content))}))
		}
	}
	for name, content := range map[string][]byte{"skerry-cluster_" + version + ".oci.tar": []byte("image of " + version), "uninstall.sh": d.marked("uninstall.sh"),
		"skerry-cluster_" + version + ".helmchart.yaml": []byte("# chart of " + version + "\n")} {
		m.Files = append(m.Files, d.put(version, name, content, release.File{Kind: release.KindOther}))
	}
	d.Sign(m)
	d.write(filepath.Join(release.ChannelDir, "stable"), []byte(version+"\n"))
	sum := sha256.Sum256(verifier)
	d.Stamp(version, target+"="+hex.EncodeToString(sum[:]))
}

// Sign writes the manifest of a release.
func (d *Depot) Sign(m release.Manifest) {
	d.t.Helper()
	raw, err := m.Encode()
	if err != nil {
		d.t.Fatal(err)
	}
	sig, err := release.Sign(raw, d.private, "test")
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(filepath.Join(m.Version, release.ManifestName), raw)
	d.write(filepath.Join(m.Version, release.SignatureName), sig)
}

// Stamp makes install.sh that of a release.
func (d *Depot) Stamp(version, pins string) {
	d.t.Helper()
	text := string(d.source("install.sh"))
	for mark, value := range map[string]string{"RELEASE_KEY": d.Key(), "RELEASE_VERSION": version, "RELEASE_URL": "", "VERIFIER_PINS": pins} {
		text = strings.ReplaceAll(text, "'@"+mark+"@'", "'"+value+"'")
	}
	d.Script = text
	d.write("install.sh", []byte(text))
}

// File is a file of the depot, for a test to spoil.
func (d *Depot) File(name string) string { return filepath.Join(d.Dir, name) }

func (d *Depot) put(version, name string, content []byte, f release.File) release.File {
	d.t.Helper()
	d.write(filepath.Join(version, name), content)
	sum := sha256.Sum256(content)
	f.Name, f.Size, f.SHA256 = name, int64(len(content)), hex.EncodeToString(sum[:])
	return f
}

func (d *Depot) write(name string, content []byte) {
	d.t.Helper()
	if err := os.MkdirAll(filepath.Dir(d.File(name)), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(d.File(name), content, 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// source is a file of install/.
func (d *Depot) source(name string) []byte {
	d.t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "install", name))
	if err != nil {
		d.t.Fatal(err)
	}
	return raw
}

// marked is a file of install/, as this release has it.
func (d *Depot) marked(name string) []byte { return append(d.source(name), d.Mark...) }

func (d *Depot) archive(program string, content []byte) []byte {
	d.t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	add := func(name string, raw []byte) {
		err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(raw)), Typeflag: tar.TypeReg, ModTime: time.Unix(1790000000, 0)})
		if err == nil {
			_, err = t.Write(raw)
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
	add(program, content)
	if program != "skerry" {
		for _, from := range []string{"systemd/" + program + ".service", "openrc/" + program, "procd/" + program, "logrotate/" + program, "uninstall.sh"} {
			add(from, d.marked(from))
		}
	}
	if err := t.Close(); err != nil {
		d.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		d.t.Fatal(err)
	}
	return b.Bytes()
}

// small is the archive packed by xz.
func (d *Depot) small(program string, content []byte) []byte {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), "sh", "-c", "gzip -dc | xz -c")
	cmd.Stdin = bytes.NewReader(d.archive(program, content))
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// verifier is the real one, which TestMain built.
func (d *Depot) verifier() []byte {
	d.t.Helper()
	raw, err := os.ReadFile(verifierPath)
	if err != nil {
		d.t.Fatal(fmt.Errorf("read verifier: %w", err))
	}
	return raw
}

// verifierPath is set before any test runs.
var verifierPath string
