package verb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// Dirs are the directories that file verbs may use, by absolute path. What is beneath one is allowed; a symbolic link
// that leads out of it is not followed.
type Dirs struct{ list atomic.Pointer[[]string] }

// NewDirs checks list.
func NewDirs(list []string) (*Dirs, error) {
	d := &Dirs{}
	return d, d.Allow(list)
}

// Allow replaces the directories, or leaves them when list has faults.
func (d *Dirs) Allow(list []string) error {
	var faults []error
	clean := make([]string, 0, len(list))
	for i, dir := range list {
		if !filepath.IsAbs(dir) {
			faults = append(faults, fmt.Errorf("directories[%d] %q: wanted an absolute path", i, dir))
		}
		clean = append(clean, filepath.Clean(dir))
	}
	err := errors.Join(faults...)
	if err != nil {
		clean = nil
	}
	if err == nil || d.list.Load() == nil {
		d.list.Store(&clean)
	}
	return err
}

// place is a file beneath an allowed directory.
type place struct {
	dir  string // allowed
	rel  string // within dir, local
	path string // as asked for
}

// find returns where path lies, without touching the disk. The innermost directory that allows it counts.
func (d *Dirs) find(path string) (place, error) {
	list := *d.list.Load()
	best := place{path: path}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return best, fmt.Errorf("args.path %.80q: wanted an absolute path without . and .. in it", path)
	}
	for _, dir := range list {
		rel, err := filepath.Rel(dir, path)
		if err == nil && rel != "." && filepath.IsLocal(rel) && len(dir) > len(best.dir) {
			best.dir, best.rel = dir, rel
		}
	}
	if best.dir == "" {
		wanted := "its configuration allows no such directory (command.read, command.write)"
		if len(list) > 0 {
			wanted = "wanted a file beneath " + strings.Join(list, ", ")
		}
		return best, fmt.Errorf("args.path %.80q is not allowed on this node; %s", path, wanted)
	}
	return best, nil
}

// root opens the allowed directory: every later step is within it, whatever is renamed or linked meanwhile (openat2(2)
// or its equivalent).
func (p place) root() (*os.Root, error) {
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return nil, fmt.Errorf("open allowed directory: %w", err)
	}
	return root, nil
}
