package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent/release"
)

// spare is disk space that an import leaves free: the cluster agent's other stores may be on the same disk.
const spare = 64 << 20

// room tells, before bytes are written below dir, that they would not leave the disk enough.
func room(dir string, bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free-bytes < spare {
		return fmt.Errorf("%w: %d bytes are free, a file has %d, and %d are to stay free", ErrNoRoom, free, bytes, int64(spare))
	}
	return nil
}

// keepPart takes over from a release that is kept what its other part, which was imported in tmp, has not.
func keepPart(kept, tmp string, man release.Manifest) error {
	old, err := os.ReadFile(filepath.Join(kept, release.ManifestName))
	if err != nil {
		return nil //nolint:nilerr // none is kept, or it is damaged
	}
	fresh, err := os.ReadFile(filepath.Join(tmp, release.ManifestName))
	if err != nil {
		return err
	}
	if !bytes.Equal(old, fresh) { // another release of that version: it takes the place of the whole
		return nil
	}
	for _, f := range man.Files {
		if checkFile(f, filepath.Join(kept, f.Name)) != nil {
			continue
		}
		if err := os.Link(filepath.Join(kept, f.Name), filepath.Join(tmp, f.Name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// place puts tmp where to is. Where the file system can exchange two names one of them is always there: a power cut loses no release, and a
// node that fetches from it goes on.
func place(tmp, to string) error {
	if err := syncDir(tmp); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	switch {
	case errors.Is(err, unix.ENOENT): // none is kept
		return os.Rename(tmp, to)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP): // a file system that cannot exchange
		return errors.Join(os.RemoveAll(to), os.Rename(tmp, to))
	}
	return err
}
