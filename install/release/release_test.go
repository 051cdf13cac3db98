package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/skerry-edge/skerry/agent/release"
)

const testVersion = "1.2.3-rc.1"

// checkout copies what git knows of the repository to a directory of its own.
func checkout(t *testing.T) string {
	t.Helper()
	root := filepath.Join("..", "..")
	out, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		if strings.HasPrefix(name, "docs/") || strings.Contains(name, "testdata/") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed and not yet committed
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), raw, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// makeRelease makes one of skerry-edge alone for one target, from its own copy of the sources.
func makeRelease(t *testing.T, keyFile string) (string, string) {
	t.Helper()
	var log bytes.Buffer
	out := filepath.Join(t.TempDir(), "dist")
	args := []string{"-source", checkout(t), "-out", out, "-version", testVersion, "-commit", "abc1234", "-stamp", "1790000000", "-targets", "linux-amd64"}
	if keyFile != "" {
		args = append(args, "-key", keyFile)
	}
	s, err := parse(args, &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.release(t.Context(), programs[:1]); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	return out, log.String()
}

func contentOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = fmt.Sprintf("%x", sha256.Sum256(raw))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTwoReleasesFromDifferentDirectoriesAreTheSameBytes(t *testing.T) {
	first, said := makeRelease(t, "")
	if !strings.Contains(said, "NO RELEASE KEY was given") || !strings.Contains(said, "Do not publish this release") {
		t.Errorf("it did not say that the key is to be thrown away:\n%s", said)
	}
	second, _ := makeRelease(t, filepath.Join(first, throwAwayName))
	a, b := contentOf(t, first), contentOf(t, second)
	delete(a, throwAwayName)
	if len(a) != len(b) || len(a) < 15 {
		t.Errorf("%d and %d files", len(a), len(b))
	}
	for name, sum := range a {
		if b[name] != sum {
			t.Errorf("%s differs", name)
		}
	}
	t.Run("manifest", func(t *testing.T) { checkManifest(t, first) })
	t.Run("packages", func(t *testing.T) { checkPackages(t, first) })
	t.Run("documents", func(t *testing.T) { checkDocuments(t, first) })
	t.Run("image", func(t *testing.T) { checkImage(t, first) })
	t.Run("bundle", func(t *testing.T) { checkBundle(t, first) })
	t.Run("offline", func(t *testing.T) { checkOffline(t, first) })
	t.Run("kube", func(t *testing.T) { checkKube(t, first) })
}

// read is a file of the release.
func read(t *testing.T, out, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(out, testVersion, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func checkManifest(t *testing.T, out string) {
	script, err := os.ReadFile(filepath.Join(out, "install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(script), "\nrelease_key='")
	keyText, _, _ := strings.Cut(rest, "'")
	key, err := release.ParseKey(keyText)
	if err != nil {
		t.Fatal(err)
	}
	m, err := release.Verify(read(t, out, release.ManifestName), read(t, out, release.SignatureName), []release.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Files {
		if err := f.Check(bytes.NewReader(read(t, out, f.Name))); err != nil {
			t.Error(err)
		}
	}
	if strings.Contains(string(script), "@RELEASE") || !strings.Contains(string(script), "\nrelease_version='"+testVersion+"'\n") {
		t.Error("install.sh is not stamped")
	}
	pin, err := m.Find(release.KindVerify, "skerry-verify", "", "linux-amd64")
	if err != nil || !strings.Contains(string(script), "verifier_pins='linux-amd64="+pin.SHA256+"'") {
		t.Errorf("install.sh does not pin the verifier (%v)", err)
	}
	f, err := m.Find(release.KindArchive, "skerry-edge", "lite", "linux-amd64")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(read(t, out, f.Name)))
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(z)
	h, err := tr.Next()
	if err != nil || h.Name != "skerry-edge" || h.Mode != 0o755 {
		t.Fatalf("first in %s is %+v, %v", f.Name, h, err)
	}
	program, err := io.ReadAll(tr)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.CheckProgram(bytes.NewReader(program)); err != nil {
		t.Error(err)
	}
	if !bytes.Contains(program, []byte(keyText)) {
		t.Error("the node agent does not know the key that the next release is signed with")
	}
	if channel, err := os.ReadFile(filepath.Join(out, "channel", "stable")); err != nil || string(channel) != testVersion+"\n" {
		t.Errorf("channel: %q, %v", channel, err)
	}
}

// checkPackages asks the tools of the distributions, where they are here.
func checkPackages(t *testing.T, out string) {
	base := filepath.Join(out, testVersion, "skerry-edge_"+testVersion+"_linux-amd64_lite.")
	for _, c := range []struct {
		argv []string
		want []string
	}{
		{[]string{"dpkg-deb", "--contents", base + "deb"}, []string{"-rwxr-xr-x root/root", "./usr/bin/skerry-edge", "./lib/systemd/system/skerry-edge.service"}},
		{[]string{"dpkg-deb", "--field", base + "deb", "Version", "Architecture"}, []string{"Version: 1.2.3~rc.1", "Architecture: amd64"}},
		{[]string{"rpm", "-qpl", base + "rpm"}, []string{"/usr/bin/skerry-edge", "/usr/lib/systemd/system/skerry-edge.service"}},
		{[]string{"tar", "-tzf", base + "apk"}, []string{"usr/bin/skerry-edge", "etc/init.d/skerry-edge", ".PKGINFO"}},
		{[]string{"sh", "-c", "xz -dc " + base + "tar.xz | tar -tv"}, []string{"-rwxr-xr-x root/root", "skerry-edge", "systemd/skerry-edge.service"}},
		{[]string{"sh", "-c", "tar -xzOf " + base + "ipk ./data.tar.gz | tar -tz"}, []string{"usr/bin/skerry-edge", "etc/init.d/skerry-edge", "lib/upgrade/keep.d/skerry-edge"}},
	} {
		said, err := exec.CommandContext(t.Context(), c.argv[0], c.argv[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", c.argv, err, said)
		}
		for _, want := range c.want {
			if !strings.Contains(string(said), want) {
				t.Errorf("%v: %q is not in\n%s", c.argv, want, said)
			}
		}
	}
	unit, err := exec.CommandContext(t.Context(), "sh", "-c", "dpkg-deb --fsys-tarfile "+base+"deb | tar -xO ./lib/systemd/system/skerry-edge.service").Output()
	if err != nil || !strings.Contains(string(unit), "ExecStart=/usr/bin/skerry-edge run\n") {
		t.Errorf("the unit of the package starts something else (%v):\n%s", err, unit)
	}
}

func checkDocuments(t *testing.T, out string) {
	var doc spdxDocument
	if err := json.Unmarshal(read(t, out, "skerry-edge_"+testVersion+"_linux-amd64_lite.spdx.json"), &doc); err != nil {
		t.Fatal(err)
	}
	var names []string
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	for _, p := range doc.Packages {
		names = append(names, p.Name)
		ids[p.ID] = true
	}
	if doc.Version != "SPDX-2.3" || !slices.Contains(names, "go.etcd.io/bbolt") || !slices.Contains(names, "std") || slices.Contains(names, "github.com/goreleaser/nfpm/v2") {
		t.Errorf("the bill is of %q", names)
	}
	for _, r := range doc.Relationships {
		if !ids[r.From] || !ids[r.To] {
			t.Errorf("%+v relates what is not there", r)
		}
	}
	var st inTotoStatement
	if err := json.Unmarshal(read(t, out, "skerry_"+testVersion+".provenance.json"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != "https://in-toto.io/Statement/v1" || st.PredicateType != "https://slsa.dev/provenance/v1" || len(st.Subject) < 8 {
		t.Errorf("provenance %+v", st)
	}
	for _, f := range st.Subject {
		if sum := fmt.Sprintf("%x", sha256.Sum256(read(t, out, f.Name))); sum != f.Digest["sha256"] {
			t.Errorf("provenance of %s is for %s; it has %s", f.Name, f.Digest["sha256"], sum)
		}
	}
}

// checkImage follows the digests from the archive's index to the program.
func checkImage(t *testing.T, out string) {
	files := untar(t, bytes.NewReader(read(t, out, "skerry-edge_"+testVersion+"_lite.oci.tar")))
	type descriptor struct {
		Digest      string            `json:"digest"`
		Annotations map[string]string `json:"annotations"`
		Platform    struct {
			OS, Architecture string
		} `json:"platform"`
	}
	var node struct {
		Manifests []descriptor `json:"manifests"`
		Layers    []descriptor `json:"layers"`
	}
	follow := func(raw []byte) {
		t.Helper()
		node.Manifests, node.Layers = nil, nil
		if err := json.Unmarshal(raw, &node); err != nil {
			t.Fatal(err)
		}
	}
	blob := func(digest string) []byte {
		t.Helper()
		raw := files["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")]
		if fmt.Sprintf("sha256:%x", sha256.Sum256(raw)) != digest {
			t.Fatalf("blob %s is not there, or other", digest)
		}
		return raw
	}
	follow(files["index.json"])
	if len(node.Manifests) != 1 || node.Manifests[0].Annotations["io.containerd.image.name"] != "ghcr.io/skerry-edge/skerry-edge:"+testVersion {
		t.Fatalf("index %+v", node.Manifests)
	}
	follow(blob(node.Manifests[0].Digest))
	if len(node.Manifests) != 1 || node.Manifests[0].Platform.Architecture != "amd64" {
		t.Fatalf("platforms %+v", node.Manifests)
	}
	follow(blob(node.Manifests[0].Digest))
	z, err := gzip.NewReader(bytes.NewReader(blob(node.Layers[0].Digest)))
	if err != nil {
		t.Fatal(err)
	}
	if program := untar(t, z)["skerry-edge"]; !bytes.HasPrefix(program, []byte("\x7fELF")) {
		t.Errorf("the image holds %d bytes of skerry-edge", len(program))
	}
}

func checkBundle(t *testing.T, out string) {
	z, err := zstd.NewReader(bytes.NewReader(read(t, out, "skerry-bundle_"+testVersion+".tar.zst")))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := untar(t, z)
	for _, want := range []string{"install.sh", "channel/stable", testVersion + "/manifest.json", testVersion + "/manifest.json.minisig",
		testVersion + "/skerry-edge_" + testVersion + "_linux-amd64_lite.tar.gz", testVersion + "/skerry-edge_" + testVersion + "_lite.oci.tar", testVersion + "/skerry-verify_linux-amd64",
		testVersion + "/skerry-cluster-" + testVersion + ".tgz", testVersion + "/skerry-kube_" + testVersion + ".tar.gz", testVersion + "/skerry-cluster_" + testVersion + ".helmchart.yaml"} {
		if len(files[want]) == 0 {
			t.Errorf("the bundle lacks %s", want)
		}
	}
	for name := range files {
		if strings.Contains(name, "key") {
			t.Errorf("the bundle holds %s", name)
		}
	}
}

// checkOffline installs from the bundle alone, in a network namespace in which nothing is.
func checkOffline(t *testing.T, out string) {
	bundle, dir := filepath.Join(out, testVersion, "skerry-bundle_"+testVersion+".tar.zst"), t.TempDir()
	if raw, err := exec.CommandContext(t.Context(), "tar", "--zstd", "-xf", bundle, "-C", dir, "install.sh").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	apart := "-n"
	if os.Getuid() != 0 {
		apart = "-rn"
	}
	root := filepath.Join(dir, "root")
	cmd := exec.CommandContext(t.Context(), "unshare", apart, "sh", filepath.Join(dir, "install.sh"))
	cmd.Env = append(os.Environ(), "INSTALL_SKERRY_OFFLINE="+bundle, "DESTDIR="+root, "INSTALL_SKERRY_INIT=systemd", "INSTALL_SKERRY_VARIANT=lite", "INSTALL_SKERRY_TARGET=linux-amd64")
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	program, err := os.ReadFile(filepath.Join(root, "usr/local/bin/skerry-edge"))
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(program)); !bytes.Contains(read(t, out, release.ManifestName), []byte(`"program_sha256":"`+sum+`"`)) {
		t.Errorf("the manifest does not know the program that was installed, %s", sum)
	}
	for _, path := range []string{"etc/skerry/edge.yaml", "etc/systemd/system/skerry-edge.service", "usr/local/bin/skerry-uninstall"} {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Errorf("%v\n%s", err, said)
		}
	}
}

func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(time.Unix(1790000000, 0)) || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is of %v and user %d", h.Name, h.ModTime, h.Uid)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatCannotBeReleasedIsRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-version", "abc1234"}, `-version: version "abc1234"`},
		{[]string{"-version", "v1.2.3"}, "without a v"},
		{[]string{"-version", "1.2.3"}, "-stamp 0"},
		{[]string{"-version", "1.2.3", "-stamp", "1790000000", "-targets", "linux-vax"}, `"linux-vax" is none`},
		{[]string{"-version", "1.2.3", "-stamp", "1790000000", "-channel", "../x"}, "-channel"},
		{[]string{"-version", "1.2.3", "-stamp", "1790000000", "-url", "https://x'"}, "-url"},
		{[]string{"-version", "1.2.3", "-stamp", "1790000000", "-key", "/none"}, "read release key"},
		{[]string{"-version", "1.2.3", "-stamp", "1790000000", "-key", "go.mod"}, "wanted PEM with PRIVATE KEY"},
	} {
		out := filepath.Join(t.TempDir(), "dist")
		err := run(t.Context(), append(c.args, "-out", out), io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v; wanted %q", c.args, err, c.want)
		}
		if entries, err := os.ReadDir(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: it wrote %v, %v", c.args, entries, err)
		}
	}
}

// TestProgramsAreBuiltAsMakeBuildsThem compares our table with the Makefile, where sizes and tests are measured.
func TestProgramsAreBuiltAsMakeBuildsThem(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	edge, where := programs[0], map[string]string{programs[0].ldflags: "SMALL"}
	for _, flag := range edge.gcflags {
		where[flag] = "SMALL"
	}
	for _, v := range edge.variants { // lite is EDGE
		where["-tags "+v.tags+" $(SMALL)"] = map[string]string{"lite": "EDGE", "full": "FULL"}[v.name]
	}
	for want, variable := range where {
		found := false
		for line := range strings.SplitSeq(string(raw), "\n") {
			found = found || strings.HasPrefix(line, variable+" ") && strings.Contains(line, want)
		}
		if !found {
			t.Errorf("%s in the Makefile does not have %q", variable, want)
		}
	}
}
