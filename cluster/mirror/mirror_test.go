package mirror

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/skerry-edge/skerry/agent/release"
)

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

// made is the files of a release with one archive.
func made(t *testing.T, version, content string) map[string][]byte {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	man := release.Manifest{Format: release.Format, Version: version, Built: time.Unix(1790000000, 0), Files: []release.File{{Name: "edge.tar.gz", SHA256: hex.EncodeToString(sum[:]),
		Size: int64(len(content)), Kind: release.KindArchive, Program: "skerry-edge", Variant: "lite", Target: "linux-arm64"}, {Name: "absent.deb", SHA256: strings.Repeat("a", 64),
		Size: 3, Kind: release.KindDeb}}}
	text, err := man.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := release.Sign(text, key(1), "")
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"dist/" + release.ManifestName: text, "dist/" + release.SignatureName: sig, "dist/edge.tar.gz": []byte(content), "dist/../evil": []byte("x")}
}

func packed(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func trusting(t *testing.T) *Mirror {
	t.Helper()
	return New(t.TempDir(), []release.Key{release.KeyOf(key(1).Public().(ed25519.PublicKey))})
}

func TestAReleaseIsTakenInHoweverItIsPacked(t *testing.T) {
	raw := packed(t, made(t, "1.2.0", "content"))
	var zipped, zst bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write(raw); err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enc.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(zw.Close(), enc.Close()); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]byte{"tar": raw, "gzip": zipped.Bytes(), "zstd": zst.Bytes()} {
		m := trusting(t)
		r, err := m.Import(t.Context(), bytes.NewReader(in))
		if err != nil || r.Version != "1.2.0" || r.Files != 1 || len(r.Targets) != 1 || r.Targets[0] != "linux-arm64/lite" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestWhatIsNoReleaseLeavesEverythingAsItWas(t *testing.T) {
	m := trusting(t)
	if _, err := m.Import(t.Context(), bytes.NewReader(packed(t, made(t, "1.0.0", "old")))); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string][]byte){
		"no manifest":  func(f map[string][]byte) { delete(f, "dist/"+release.ManifestName) },
		"no signature": func(f map[string][]byte) { delete(f, "dist/"+release.SignatureName) },
		"bad hash":     func(f map[string][]byte) { f["dist/edge.tar.gz"] = []byte("tampered") },
		"nothing":      func(f map[string][]byte) { delete(f, "dist/edge.tar.gz") },
		"other key": func(f map[string][]byte) {
			f["dist/"+release.SignatureName], _ = release.Sign(f["dist/"+release.ManifestName], key(2), "")
		},
	} {
		files := made(t, "1.0.0", "new")
		change(files)
		if _, err := m.Import(t.Context(), bytes.NewReader(packed(t, files))); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole := packed(t, made(t, "1.0.0", "new"))
	if _, err := m.Import(t.Context(), bytes.NewReader(whole[:len(whole)/2])); err == nil {
		t.Error("half an archive was taken in")
	}
	list, err := m.List()
	if err != nil || len(list) != 1 || get(t, m, "1.0.0", "edge.tar.gz", "").Body.String() != "old" {
		t.Errorf("%+v, %v; wanted what was there before", list, err)
	}
}

func get(t *testing.T, m *Mirror, version, name, ranged string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if ranged != "" {
		r.Header.Set("Range", ranged)
	}
	m.Serve(w, r, version, name)
	return w
}

func TestFilesAreServedInPartsAndNothingElseIs(t *testing.T) {
	m := trusting(t)
	for _, v := range []string{"1.2.0", "1.10.0"} {
		if _, err := m.Import(t.Context(), bytes.NewReader(packed(t, made(t, v, "content")))); err != nil {
			t.Fatal(err)
		}
	}
	if w := get(t, m, "1.2.0", "edge.tar.gz", "bytes=3-"); w.Code != http.StatusPartialContent || w.Body.String() != "tent" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	for _, ask := range [][2]string{{"1.2.0", "absent.deb"}, {"1.2.0", "evil"}, {"1.2.0", "../1.10.0/edge.tar.gz"}, {"..", "x"}, {"3.0.0", "edge.tar.gz"}, {"1.2.0", "."}} {
		if w := get(t, m, ask[0], ask[1], ""); w.Code != http.StatusNotFound {
			body, _ := io.ReadAll(w.Body)
			t.Errorf("%v: %d %q", ask, w.Code, body)
		}
	}
	list, err := m.List()
	if err != nil || len(list) != 2 || list[0].Version != "1.10.0" {
		t.Errorf("%+v, %v; wanted the newest first", list, err)
	}
	if err := m.Remove("1.2.0"); err != nil {
		t.Error(err)
	}
	if _, err := m.Get("1.2.0"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v of one that was removed", err)
	}
	if _, err := m.Get("1.10.0"); err != nil {
		t.Error(err)
	}
	if err := m.Remove("1.2.0"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if err := m.Remove(".."); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

func TestAManifestThatIsTooLongIsRefusedBeforeItIsKept(t *testing.T) {
	m := New(t.TempDir(), nil)
	files := made(t, "1.2.3", "program")
	files[release.ManifestName] = make([]byte, release.MaxManifestBytes+1)
	if _, err := m.Import(t.Context(), bytes.NewReader(packed(t, files))); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "wanted at most") {
		t.Errorf("%v; wanted its length to be refused", err)
	}
}
