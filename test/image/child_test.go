package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/edge/image"
	"github.com/skerry-edge/skerry/edge/workload"
)

// pullAsChild is the process that is killed.
func pullAsChild(t *testing.T, dir string) {
	id, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{id: id, dir: dir}
	n.open(t, image.Settings{})
	if _, err := n.Pull(t.Context(), os.Getenv("SKERRY_TEST_PULL_REF"), api.PullMissing, nil); err != nil {
		t.Fatal(err)
	}
}

// check opens the store as the next process does: the image is there whole or not at all, and nothing is left over but what a
// download goes on with.
func check(t *testing.T, _ *site, id *identity.Identity, dir, digest string, files int) (there bool) {
	t.Helper()
	n := &node{id: id, dir: dir}
	n.open(t, image.Settings{})
	left, err := os.ReadDir(filepath.Join(dir, "images", "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if !strings.HasSuffix(e.Name(), ".part") {
			t.Errorf("%s is left over", e.Name())
		}
	}
	img, err := n.Root(digest)
	if errors.Is(err, workload.ErrNoImage) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := filepath.Glob(filepath.Join(img.Dir, "d*", "f*"))
	if err != nil || len(got) != files {
		t.Errorf("%d files, %v; wanted all %d or none", len(got), err, files)
	}
	return true
}
