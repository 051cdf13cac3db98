package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// A volume of files is laid as a kubelet lays it: the files are in a folder of a name of its own, dataLink leads to that, and what
// people see leads through dataLink. So all files change at once, which is when dataLink does, and a program that watches it
// or a file hears of it. A subPath of one file is that file, and stays as it was; one of a folder is of the folder that goes, and empty then,
// as under a kubelet (kubernetes#126152).
const (
	dataLink = "..data"
	newLink  = "..new" // on its way to another name
)

// layFiles has dir hold files and no others, and changes nothing when it does.
func layFiles(dir string, files []api.File) error {
	raw, err := json.Marshal(files)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	now := ".." + hex.EncodeToString(sum[:16])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	was, err := root.Readlink(dataLink)
	plain := err != nil // of an agent that laid them without links
	if was != now {
		if err := fill(root, now, files); err != nil {
			return errors.Join(err, root.RemoveAll(now))
		}
		if err := link(root, now, dataLink); err != nil {
			return err
		}
	}
	if err := show(root, files); err != nil { // also what an attempt that broke off left to do
		return err
	}
	return sweep(root, now, files, plain)
}

// fill makes the folder of a name with the files in it.
func fill(root *os.Root, name string, files []api.File) error {
	if err := errors.Join(root.RemoveAll(name), root.Mkdir(name, 0o755)); err != nil { // some of it may be there of an attempt that broke off
		return err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Path, "..") {
			return fmt.Errorf("file %.80q: wanted a name that does not begin with two dots", f.Path)
		}
		at := path.Join(name, f.Path)
		mode := fs.FileMode(f.Mode).Perm()
		if err := errors.Join(root.MkdirAll(path.Dir(at), 0o755), root.WriteFile(at, f.Data, 0o600), root.Chmod(at, mode)); err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	return nil
}

// link has name lead to target, from one moment to the next.
func link(root *os.Root, target, name string) error {
	if have, err := root.Readlink(name); err == nil && have == target {
		return nil
	}
	if info, err := root.Lstat(name); err == nil && info.IsDir() { // of an agent that laid it without links
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	if err := root.RemoveAll(newLink); err != nil {
		return err
	}
	if err := root.Symlink(target, newLink); err != nil {
		return err
	}
	return root.Rename(newLink, name)
}

// show has the names that people see lead to the files.
func show(root *os.Root, files []api.File) error {
	for name := range tops(files) {
		if err := link(root, path.Join(dataLink, name), name); err != nil {
			return fmt.Errorf("show %s: %w", name, err)
		}
	}
	return nil
}

// tops are the first parts of the paths of files.
func tops(files []api.File) map[string]bool {
	out := map[string]bool{}
	for _, f := range files {
		top, _, _ := strings.Cut(f.Path, "/")
		out[top] = true
	}
	return out
}

// sweep removes what is neither of the files nor of the way to them. Folders that were made for a subPath stay, unless what was there
// before had no links: then all is swept.
func sweep(root *os.Root, now string, files []api.File, plain bool) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	shown := tops(files)
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if name == now || name == dataLink || shown[name] || e.IsDir() && !strings.HasPrefix(name, "..") && !plain {
			continue
		}
		errs = append(errs, root.RemoveAll(name))
	}
	return errors.Join(errs...)
}
