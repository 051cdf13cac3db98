package mirror

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
)

func TestPartsOfOneReleaseAddUp(t *testing.T) {
	m := trusting(t)
	man := release.Manifest{Format: release.Format, Version: "1.0.0", Built: time.Unix(1790000000, 0)}
	for _, target := range []string{"linux-arm64", "linux-armv7"} {
		sum := sha256.Sum256([]byte(target))
		man.Files = append(man.Files, release.File{Name: target + ".tar.gz", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(target)), Kind: release.KindArchive,
			Program: "skerry-edge", Variant: "lite", Target: target})
	}
	take := func(want ...string) {
		t.Helper()
		text, err := man.Encode()
		if err != nil {
			t.Fatal(err)
		}
		sig, err := release.Sign(text, key(1), "")
		if err != nil {
			t.Fatal(err)
		}
		only := strings.TrimSuffix(want[len(want)-1], "/lite")
		files := map[string][]byte{release.ManifestName: text, release.SignatureName: sig, only + ".tar.gz": []byte(only)}
		r, err := m.Import(t.Context(), bytes.NewReader(packed(t, files)))
		if err != nil || !slices.Equal(r.Targets, want) {
			t.Errorf("%+v, %v; wanted %v", r, err, want)
		}
	}
	take("linux-arm64/lite")
	take("linux-arm64/lite", "linux-armv7/lite")
	man.Commit = "another build of that version"
	take("linux-armv7/lite")
}

func TestADamagedReleaseIsToldAndCanBeRemovedOrMended(t *testing.T) {
	m := trusting(t)
	for _, v := range []string{"1.0.0", "1.1.0"} {
		if _, err := m.Import(t.Context(), bytes.NewReader(packed(t, made(t, v, "content of "+v)))); err != nil {
			t.Fatal(err)
		}
	}
	tear := func() {
		if err := os.WriteFile(filepath.Join(m.dir, "1.0.0", release.ManifestName), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tear()
	list, err := m.List()
	if err != nil || len(list) != 2 || list[0].Damaged != "" || list[1].Version != "1.0.0" || list[1].Damaged == "" {
		t.Fatalf("%+v, %v", list, err)
	}
	if r, err := m.Import(t.Context(), bytes.NewReader(packed(t, made(t, "1.0.0", "again")))); err != nil || r.Damaged != "" {
		t.Errorf("%+v, %v", r, err)
	}
	tear()
	if err := m.Remove("1.0.0"); err != nil {
		t.Error(err)
	}
	if list, err := m.List(); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAnImportLeavesTheDiskRoom(t *testing.T) {
	if err := room(t.TempDir(), math.MaxInt64/2); !errors.Is(err, ErrNoRoom) {
		t.Errorf("%v; wanted it to be refused", err)
	}
	if err := room(t.TempDir(), 1); err != nil && !errors.Is(err, ErrNoRoom) {
		t.Error(err)
	}
}

// TestWhoFetchesGoesOnWhileAReleaseIsReplaced has a node read the old file when the new one is there.
func TestWhoFetchesGoesOnWhileAReleaseIsReplaced(t *testing.T) {
	m := trusting(t)
	if _, err := m.Import(t.Context(), bytes.NewReader(packed(t, made(t, "1.0.0", "old")))); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(m.dir, "1.0.0", "edge.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := m.Import(t.Context(), bytes.NewReader(packed(t, made(t, "1.0.0", "new")))); err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(f); err != nil || string(raw) != "old" {
		t.Errorf("%q, %v", raw, err)
	}
	if got := get(t, m, "1.0.0", "edge.tar.gz", "").Body.String(); got != "new" {
		t.Errorf("%q is served", got)
	}
}
