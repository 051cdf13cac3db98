package verifier

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
)

// site is a directory with a signed manifest and its one file.
type site struct {
	dir, manifest, signature, file string
	key                            release.Key
}

func newSite(t *testing.T) site {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	dir := t.TempDir()
	s := site{dir, filepath.Join(dir, release.ManifestName), filepath.Join(dir, release.SignatureName), filepath.Join(dir, "file.txt"),
		release.KeyOf(private.Public().(ed25519.PublicKey))}
	sum := sha256.Sum256([]byte("content"))
	m := release.Manifest{Format: release.Format, Version: "1.2.3", Commit: "c", Built: time.Unix(1790000000, 0), Files: []release.File{
		{Name: "file.txt", SHA256: hex.EncodeToString(sum[:]), Size: 7, Kind: release.KindOther}}}
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := release.Sign(raw, private, "skerry 1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.manifest, raw)
	write(t, s.signature, sig)
	write(t, s.file, []byte("content"))
	return s
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyWhatWasSignedIsGood(t *testing.T) {
	s := newSite(t)
	other := release.KeyOf(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey))
	bad := filepath.Join(t.TempDir(), "file.txt")
	write(t, bad, []byte("Content"))
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"manifest":      {[]string{s.key.String(), s.manifest, s.signature}, 0, "release 1.2.3: signature and 0 files are good"},
		"file":          {[]string{s.key.String(), s.manifest, s.signature, s.file}, 0, "1 files are good"},
		"second key":    {[]string{other.String() + "," + s.key.String(), s.manifest, s.signature}, 0, "good"},
		"other key":     {[]string{other.String(), s.manifest, s.signature}, 1, "no signature by a trusted release key"},
		"no key":        {[]string{"@RELEASE_KEY@", s.manifest, s.signature}, 1, `release key "@RELEASE_KEY@"`},
		"wrong file":    {[]string{s.key.String(), s.manifest, s.signature, bad}, 1, "file.txt: sha256"},
		"unknown file":  {[]string{s.key.String(), s.manifest, s.signature, s.signature}, 1, "has no file"},
		"absent":        {[]string{s.key.String(), s.manifest, s.signature + "x"}, 1, "no such file"},
		"swapped":       {[]string{s.key.String(), s.signature, s.manifest}, 1, "signature holds none"},
		"few arguments": {[]string{s.key.String()}, 2, "usage: skerry-verify"},
	} {
		var out bytes.Buffer
		if code := Main(c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: got %d %q; wanted %d %q", name, code, out.String(), c.code, c.want)
		}
	}
}

// TestPeerToolsOfOthersTakeOurSignatureAndNoOther runs what install.sh would.
func TestPeerToolsOfOthersTakeOurSignatureAndNoOther(t *testing.T) {
	s := newSite(t)
	raw, err := os.ReadFile(s.signature)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Split(string(raw), "\n")[1]
	sig, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(s.dir, name) }
	write(t, in("sig.raw"), sig[10:])
	write(t, in("key.der"), append([]byte("\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"), s.key.Public...))
	write(t, in("key.pub"), []byte("untrusted comment: key\n"+s.key.String()+"\n"))
	tools := map[string][]string{
		"minisign":        {"-V", "-q", "-P", s.key.String(), "-m", s.manifest, "-x", s.signature},
		"signify-openbsd": {"-V", "-q", "-p", in("key.pub"), "-m", s.manifest, "-x", s.signature},
		"openssl":         {"pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", in("key.der"), "-rawin", "-in", s.manifest, "-sigfile", in("sig.raw")},
	}
	for _, good := range []bool{true, false} {
		if !good {
			content, err := os.ReadFile(s.manifest)
			if err != nil {
				t.Fatal(err)
			}
			write(t, s.manifest, bytes.Replace(content, []byte("1.2.3"), []byte("1.2.4"), 1))
		}
		for tool, args := range tools {
			out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
			if (err == nil) != good {
				t.Errorf("%s says %v of a manifest that is good: %v\n%s", tool, err, good, out)
			}
		}
	}
}
