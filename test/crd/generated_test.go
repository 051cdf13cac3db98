package crd

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestGeneratedFilesAreNotStale generates into an empty directory and compares.
func TestGeneratedFilesAreNotStale(t *testing.T) {
	fresh, root := t.TempDir(), filepath.Join("..", "..")
	if out, err := exec.CommandContext(t.Context(), "./generate.sh", fresh).CombinedOutput(); err != nil {
		t.Fatalf("generate.sh: %v\n%s", err, out)
	}
	var names []string
	err := filepath.WalkDir(fresh, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(fresh, path)
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	committed, err := filepath.Glob(filepath.Join(root, "install", "kube", "crd", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range committed {
		if !slices.Contains(names, filepath.Join("install", "kube", "crd", filepath.Base(path))) {
			t.Errorf("%s is generated from nothing; remove it", path)
		}
	}
	if len(names) != 9 {
		t.Errorf("generated %v; wanted 7 CRDs and 2 files of deep copies", names)
	}
	for _, name := range names {
		want, err := os.ReadFile(filepath.Join(fresh, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Errorf("%v; run: make generate", err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is stale; run: make generate", name)
		}
	}
}
