package release

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func example() Manifest {
	sum := strings.Repeat("0123456789abcdef", 4)
	return Manifest{Format: Format, Version: "1.4.0-rc.1", Commit: "abc1234", Built: time.Unix(1790000000, 0).UTC(), Files: []File{
		{Name: "skerry-edge_1.4.0-rc.1_linux-arm64_lite.tar.gz", SHA256: sum, Size: 3, Kind: KindArchive, Program: "skerry-edge",
			Variant: "lite", Target: "linux-arm64", ProgramSHA256: sum, ProgramSize: 9},
		{Name: "LICENSE", SHA256: sum, Size: 0, Kind: KindOther},
	}}
}

// key is the same on every run: seed tells them apart.
func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(t *testing.T, private ed25519.PrivateKey) Key {
	t.Helper()
	return KeyOf(private.Public().(ed25519.PublicKey))
}

func TestAManifestIsReadAsItWasWritten(t *testing.T) {
	want := example()
	raw, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(raw)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; wanted %+v", got, err, want)
	}
	if again, err := got.Encode(); err != nil || !bytes.Equal(again, raw) {
		t.Errorf("encoded again: %v\n%s\nwanted\n%s", err, again, raw)
	}
}

// TestEachFileHasALineOfItsOwn is what install.sh relies on.
func TestEachFileHasALineOfItsOwn(t *testing.T) {
	m := example()
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	for _, f := range m.Files {
		prefix := fmt.Sprintf(`{"name":%q,"sha256":%q,"size":%d,"kind":%q`, f.Name, f.SHA256, f.Size, f.Kind)
		if n := len(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.HasPrefix(l, prefix) })); n != 1 {
			t.Errorf("%d lines begin with %s; wanted one of\n%s", n, prefix, raw)
		}
	}
	if !slices.Contains(lines, `"version":"1.4.0-rc.1",`) {
		t.Errorf("the version has no line of its own:\n%s", raw)
	}
}

func TestAManifestOfALaterReleaseIsRead(t *testing.T) {
	raw, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(raw, []byte(`"files"`), []byte(`"notes":{"more":[1]},"files"`), 1)
	raw = bytes.Replace(raw, []byte(`"kind":"other"`), []byte(`"kind":"hologram","depth":3`), 1)
	if _, err := Decode(raw); err != nil {
		t.Error(err)
	}
}

func TestABadManifestIsRefusedWithItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Manifest)
		want   string
	}{
		"format":         {func(m *Manifest) { m.Format = "skerry-release/2" }, `format "skerry-release/2"; wanted "skerry-release/1"`},
		"version":        {func(m *Manifest) { m.Version = "1.4" }, `version "1.4"; wanted MAJOR.MINOR.PATCH`},
		"no files":       {func(m *Manifest) { m.Files = nil }, "0 files; wanted 1 to 1024"},
		"many files":     {func(m *Manifest) { m.Files = make([]File, MaxFiles+1) }, "1025 files; wanted 1 to 1024"},
		"twice":          {func(m *Manifest) { m.Files[1].Name = m.Files[0].Name }, "is named twice"},
		"path":           {func(m *Manifest) { m.Files[1].Name = "a/../b" }, `name "a/../b": character '/' at 1`},
		"hidden":         {func(m *Manifest) { m.Files[1].Name = ".." }, `name "..": character '.' at 0`},
		"quote":          {func(m *Manifest) { m.Files[1].Name = "a'b" }, `character '\'' at 1`},
		"manifest":       {func(m *Manifest) { m.Files[1].Name = ManifestName }, "a file that is not the manifest's own"},
		"hash":           {func(m *Manifest) { m.Files[1].SHA256 = strings.Repeat("A", 64) }, "LICENSE: sha256"},
		"size":           {func(m *Manifest) { m.Files[1].Size = -1 }, `LICENSE: size "-1"; wanted 0 to 4294967296`},
		"kind":           {func(m *Manifest) { m.Files[1].Kind = "" }, `LICENSE: kind ""`},
		"target":         {func(m *Manifest) { m.Files[0].Target = "linux/arm" }, `target "linux/arm"`},
		"program's hash": {func(m *Manifest) { m.Files[0].ProgramSHA256 = "" }, `program_sha256 ""`},
		"program's size": {func(m *Manifest) { m.Files[0].ProgramSize = -4 }, `program_size "-4"`},
		"built":          {func(m *Manifest) { m.Built = time.Time{} }, "wanted a time since 2000"},
		"commit":         {func(m *Manifest) { m.Commit = strings.Repeat("c", 200) }, "commit has 200 bytes"},
	} {
		m := example()
		c.change(&m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; wanted %q", name, err, c.want)
		}
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	good, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{
		"empty": "", "array": "[]", "follows": string(good) + "{}", "large": strings.Repeat(" ", MaxManifestBytes+1),
		"built":  strings.Replace(string(good), "2026-", "26-", 1),
		"number": strings.Replace(string(good), `"size":3`, `"size":3.5`, 1),
	} {
		if _, err := Decode([]byte(raw)); err == nil {
			t.Errorf("%s: wanted an error", name)
		}
	}
}

func TestOnlyATrustedKeysSignatureOverTheseBytesIsTaken(t *testing.T) {
	raw, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	mine, other := key(1), key(2)
	sig, err := Sign(raw, mine, "skerry 1.4.0")
	if err != nil {
		t.Fatal(err)
	}
	otherSig, err := Sign(raw, other, "")
	if err != nil {
		t.Fatal(err)
	}
	keys := []Key{public(t, mine)}
	if m, err := Verify(raw, sig, keys); err != nil || m.Version != "1.4.0-rc.1" {
		t.Errorf("got %+v, %v", m, err)
	}
	if _, err := Verify(raw, slices.Concat(otherSig, sig), keys); err != nil {
		t.Errorf("two signatures, the second by a trusted key: %v", err)
	}
	for i := range raw { // every byte counts
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if m, err := Verify(changed, sig, keys); !errors.Is(err, ErrSignature) || m.Version != "" {
			t.Fatalf("byte %d changed: got %+v, %v", i, m, err)
		}
	}
	for name, c := range map[string]struct {
		sig  []byte
		keys []Key
		want string
	}{
		"other key":          {otherSig, keys, "no signature by a trusted release key"},
		"other key, same id": {otherSig, []Key{{ID: public(t, other).ID, Public: keys[0].Public}}, "no signature"},
		"no keys":            {sig, nil, "0 release keys"},
		"empty":              {nil, keys, "signature holds none"},
		"truncated":          {sig[:len(sig)/3], keys, "wanted 100 characters of base64"},
		"prehashed":          {bytes.Replace(sig, []byte("\nRW"), []byte("\nRU"), 1), keys, "wanted 100 characters of base64"},
		"large":              {make([]byte, MaxSignatureBytes+1), keys, "wanted at most 16384"},
		"many":               {bytes.Repeat(sig, maxKeys+1), keys, "more than 16 signatures"},
	} {
		if _, err := Verify(raw, c.sig, c.keys); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; wanted %q", name, err, c.want)
		}
	}
	if _, err := Sign(raw, mine, "two\nlines"); err == nil {
		t.Error("a comment of two lines was signed")
	}
	if _, err := Sign(raw, mine[:10], ""); err == nil {
		t.Error("half a key signed")
	}
}

func TestAKeyIsReadAsItWasWritten(t *testing.T) {
	k := public(t, key(1))
	got, err := ParseKey(k.String() + "\n")
	if err != nil || got.ID != k.ID || !got.Public.Equal(k.Public) {
		t.Errorf("got %+v, %v; wanted %+v", got, err, k)
	}
	if s := k.String(); len(s) != 56 || !strings.HasPrefix(s, "RW") {
		t.Errorf("key %q", s)
	}
	for _, bad := range []string{"", "RW", k.String()[1:], strings.Repeat("A", 56), "@RELEASE_KEY@"} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestAFileIsTakenOnlyWithItsSizeAndHash(t *testing.T) {
	f := File{Name: "x", Size: 3, SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", Program: "p"} // FIPS 180-2, B.1
	if err := f.Check(strings.NewReader("abc")); err != nil {
		t.Error(err)
	}
	for content, want := range map[string]string{"ab": "size 2; wanted 3 bytes", "abcd": "size more than 3; wanted 3 bytes", "abd": "sha256 a52d"} {
		var bad *ErrContent
		if err := f.Check(strings.NewReader(content)); !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v; wanted %q", content, err, want)
		}
	}
	if err := f.CheckProgram(strings.NewReader("abc")); err == nil {
		t.Error("a file without a program had one")
	}
	f.ProgramSize, f.ProgramSHA256 = f.Size, f.SHA256
	if err := f.CheckProgram(strings.NewReader("abc")); err != nil {
		t.Error(err)
	}
}

func TestFindNamesWhatThereIs(t *testing.T) {
	m := example()
	if f, err := m.Find(KindArchive, "skerry-edge", "lite", "linux-arm64"); err != nil || f.Name != m.Files[0].Name {
		t.Errorf("got %+v, %v", f, err)
	}
	_, err := m.Find(KindArchive, "skerry-edge", "full", "linux-arm64")
	if err == nil || !strings.Contains(err.Error(), "linux-arm64 lite") {
		t.Errorf("got %v; wanted what there is", err)
	}
	if _, err := m.FileNamed("LICENSE"); err != nil {
		t.Error(err)
	}
	if _, err := m.FileNamed("nothing"); err == nil {
		t.Error("wanted an error")
	}
}

func TestVersionsAreOrderedAsSemVerSays(t *testing.T) {
	// The example of clause 11, with what is around it.
	order := []string{"0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
		"1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0-0", "2.0.0"}
	for i, a := range order {
		for j, b := range order {
			va, errA := ParseVersion(a)
			vb, errB := ParseVersion("v" + b + "+build.007")
			if errA != nil || errB != nil {
				t.Fatal(errA, errB)
			}
			if got := va.Compare(vb); sign(got) != sign(i-j) {
				t.Errorf("%s and %s: got %d", a, b, got)
			}
			if err := Newer(a, b); (err == nil) != (j > i) {
				t.Errorf("from %s to %s: %v", a, b, err)
			}
		}
	}
	for _, bad := range []string{"", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3-a..b", "1.2.3+", "1.2.3-ä", "+1.2.3", "-1.2.3",
		"99999999999999999999.0.0", "1.2.3 ", "vv1.2.3", "1.2.3-" + strings.Repeat("a", 200)} {
		if v, err := ParseVersion(bad); err == nil {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
}

func sign(n int) int {
	return map[bool]int{true: 1}[n > 0] - map[bool]int{true: 1}[n < 0]
}

func FuzzDecode(f *testing.F) {
	raw, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"format":"skerry-release/1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Decode(raw)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			return // what was read may be larger when written, never wrong
		}
		if n, err := Decode(again); err != nil || !reflect.DeepEqual(m, n) {
			t.Errorf("%v: %+v was written as %s and read as %+v", err, m, again, n)
		}
	})
}

func FuzzVerify(f *testing.F) {
	private := key(1)
	raw, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	sig, err := Sign(raw, private, "c")
	if err != nil {
		f.Fatal(err)
	}
	keys := []Key{KeyOf(private.Public().(ed25519.PublicKey))}
	f.Add(raw, sig)
	f.Add([]byte("{}"), []byte("untrusted comment: \nRW\n"))
	f.Fuzz(func(t *testing.T, manifest, signature []byte) {
		if _, err := Verify(manifest, signature, keys); err == nil && !bytes.Equal(manifest, raw) {
			t.Errorf("verified %q, which nobody signed", manifest)
		}
	})
}

func FuzzParseVersion(f *testing.F) {
	f.Add("v1.2.3-rc.1+b")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		if err != nil {
			return
		}
		if v.String() != strings.TrimPrefix(s, "v") || v.Compare(v) != 0 {
			t.Errorf("%q was read as %v", s, v)
		}
	})
}
