package workload

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func lay(t *testing.T, dir string, files ...api.File) {
	t.Helper()
	if err := layFiles(dir, files); err != nil {
		t.Fatal(err)
	}
}

func text(name, data string) api.File { return api.File{Path: name, Mode: 0o640, Data: []byte(data)} }

func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for name, data := range want {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(raw) != data {
			t.Errorf("%s holds %q, %v; wanted %q", name, raw, err, data)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	if now, err := os.Readlink(filepath.Join(dir, dataLink)); err != nil || !slices.Contains(all, now) || len(all) != 2+len(topsOf(want)) {
		t.Errorf("the volume has %v, and %s leads to %q, %v; wanted the files, that and where it leads", all, dataLink, now, err)
	}
}

func topsOf(want map[string]string) map[string]bool {
	var files []api.File
	for name := range want {
		files = append(files, api.File{Path: name})
	}
	return tops(files)
}

func TestFilesOfAVolumeChangeAllAtOnceAndWhatIsOpenStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	lay(t, dir, text("a", "one"), text("b", "one"), text("in/c", "one"))
	holds(t, dir, map[string]string{"a": "one", "b": "one", "in/c": "one"})
	if info, err := os.Stat(filepath.Join(dir, "a")); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v; wanted the mode that was given", info, err)
	}
	link, err := os.Lstat(filepath.Join(dir, dataLink))
	if err != nil {
		t.Fatal(err)
	}
	lay(t, dir, text("a", "one"), text("b", "one"), text("in/c", "one"))
	if again, err := os.Lstat(filepath.Join(dir, dataLink)); err != nil || !os.SameFile(link, again) {
		t.Errorf("files that are as they should be were laid again: %v", err)
	}
	sub, err := within(dir, "a") // what a subPath is mounted from
	if err != nil {
		t.Fatal(err)
	}
	mounted, err := os.Open(sub)
	if err != nil {
		t.Fatal(err)
	}
	defer mounted.Close()
	lay(t, dir, text("a", "two"), text("d", "two"))
	holds(t, dir, map[string]string{"a": "two", "d": "two"})
	if raw, err := io.ReadAll(mounted); err != nil || string(raw) != "one" {
		t.Errorf("a subPath has become %q, %v", raw, err)
	}
	lay(t, dir)
	holds(t, dir, nil)
}

func TestFilesThatWereLaidWithoutLinksAreTakenOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	if err := os.MkdirAll(filepath.Join(dir, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "old", "in/c", "in/old"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("plain"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lay(t, dir, text("a", "one"), text("in/c", "one"))
	holds(t, dir, map[string]string{"a": "one", "in/c": "one"})
	if _, err := os.Stat(filepath.Join(dir, "in/old")); err == nil {
		t.Error("a file that is no more is there")
	}
}

func TestAFileTakesNoNameOfTheWayToIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	lay(t, dir, text("a", "one"))
	if err := layFiles(dir, []api.File{text("a", "two"), text(dataLink, "x")}); err == nil {
		t.Error("a file takes the place of the link")
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(raw) != "one" {
		t.Errorf("what could not be laid has changed what is there: %q, %v", raw, err)
	}
	lay(t, dir, text("a", "two"))
	holds(t, dir, map[string]string{"a": "two"})
}

// TestWhatALayLeftUndoneIsDoneByTheNext has one end after the files were switched, and before what was there went.
func TestWhatALayLeftUndoneIsDoneByTheNext(t *testing.T) {
	two := []api.File{text("a", "two")}
	named := filepath.Join(t.TempDir(), "named")
	lay(t, named, two...)
	name, err := os.Readlink(filepath.Join(named, dataLink))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "v")
	lay(t, dir, text("a", "one"), text("secret", "one"))
	was, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fill(root, name, two), link(root, name, dataLink), root.Close()); err != nil {
		t.Fatal(err)
	}
	lay(t, dir, two...)
	for _, gone := range []string{was, "secret"} {
		if _, err := os.Lstat(filepath.Join(dir, gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", gone, err)
		}
	}
	if err := layFiles(dir, []api.File{text("a", "three"), text("a/b", "no folder")}); err == nil {
		t.Fatal("a file is a folder")
	}
	lay(t, dir, two...)
	if left, err := filepath.Glob(filepath.Join(dir, "..*")); err != nil || len(left) != 2 { // the folder and the link to it
		t.Errorf("left of one that broke off: %v, %v", left, err)
	}
}
