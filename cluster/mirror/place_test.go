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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	m := New(t.TempDir(), nil)
	if err := m.promise(m.dir, math.MaxInt64/2); !errors.Is(err, ErrNoRoom) {
		t.Errorf("%v; wanted it to be refused", err)
	}
	if err := m.promise(m.dir, 1); err != nil && !errors.Is(err, ErrNoRoom) {
		t.Error(err)
	}
}

func TestWhatImportsAreAboutToWriteIsCountedTogether(t *testing.T) {
	m := New(t.TempDir(), nil)
	var st unix.Statfs_t
	if err := unix.Statfs(m.dir, &st); err != nil {
		t.Fatal(err)
	}
	most := (int64(st.Bavail)*int64(st.Bsize) - spare) / 4 * 3
	if most <= 0 {
		t.Fatalf("the disk of %s is full", m.dir)
	}
	first := &due{Reader: strings.NewReader("x"), m: m, left: most}
	if err := m.promise(m.dir, most); err != nil {
		t.Fatal(err)
	}
	if err := m.promise(m.dir, most); !errors.Is(err, ErrNoRoom) {
		t.Errorf("%v; wanted the second to be refused while the first is written", err)
	}
	if _, err := io.Copy(io.Discard, first); err != nil {
		t.Fatal(err)
	}
	first.end()
	if m.promised != 0 {
		t.Errorf("%d bytes are promised when all is over", m.promised)
	}
}

// TestAnImportThatTakesItsTimeHoldsUpNobody has the first archive stand still half-way, as over a slow line.
func TestAnImportThatTakesItsTimeHoldsUpNobody(t *testing.T) {
	m := trusting(t)
	if err := os.Mkdir(filepath.Join(m.dir, importing), 0o700); err != nil { // one that was cut off
		t.Fatal(err)
	}
	raw := packed(t, made(t, "2.0.0", strings.Repeat("slow", 1000)))
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := m.Import(t.Context(), in)
		ended <- err
	}()
	half := len(raw) / 2
	if _, err := out.Write(raw[:half]); err != nil {
		t.Fatal(err)
	}
	others := make(chan error, 1)
	go func() {
		_, err := m.Import(t.Context(), bytes.NewReader(packed(t, made(t, "1.0.0", "quick"))))
		others <- errors.Join(err, m.Remove("1.0.0"))
	}()
	select {
	case err := <-others:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("another import and a removal wait for one that stands still")
	}
	if _, err := out.Write(raw[half:]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(out.Close(), <-ended); err != nil {
		t.Errorf("%v; wanted the slow one to be whole", err)
	}
	if left, err := filepath.Glob(filepath.Join(m.dir, importing+"*")); err != nil || len(left) != 0 {
		t.Errorf("%v, %v; wanted nothing half-received to be left", left, err)
	}
}

// TestPartsThatAreImportedAtOnceAddUp has each part of a release come by an import of its own, all at the same time.
func TestPartsThatAreImportedAtOnceAddUp(t *testing.T) {
	m := trusting(t)
	man := release.Manifest{Format: release.Format, Version: "1.0.0", Built: time.Unix(1790000000, 0)}
	const parts = 8
	for i := range parts {
		target := "linux-arch" + strconv.Itoa(i)
		sum := sha256.Sum256([]byte(target))
		man.Files = append(man.Files, release.File{Name: target + ".tar.gz", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(target)), Kind: release.KindArchive,
			Program: "skerry-edge", Variant: "lite", Target: target})
	}
	text, err := man.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := release.Sign(text, key(1), "")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, f := range man.Files {
		raw := packed(t, map[string][]byte{release.ManifestName: text, release.SignatureName: sig, f.Name: []byte(f.Target)})
		all.Go(func() {
			if _, err := m.Import(t.Context(), bytes.NewReader(raw)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if r, err := m.Get("1.0.0"); err != nil || r.Files != parts || len(r.Targets) != parts {
		t.Errorf("%+v, %v; wanted all %d parts", r, err, parts)
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
