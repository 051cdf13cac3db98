package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
)

// spare is disk space that an import leaves free: the cluster agent's other stores may be on the same disk.
const spare = 64 << 20

// importing begins the names of directories that are written to.
const importing = ".importing"

// begin makes a directory for an import, and removes those of imports that were cut off. Done ends it.
func (m *Mirror) begin() (dir string, done func(), err error) {
	m.one.Lock()
	defer m.one.Unlock()
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return "", nil, err
	}
	list, err := os.ReadDir(m.dir)
	if err != nil {
		return "", nil, err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), importing) && !m.receiving[e.Name()] {
			if err := os.RemoveAll(filepath.Join(m.dir, e.Name())); err != nil {
				return "", nil, err
			}
		}
	}
	if dir, err = os.MkdirTemp(m.dir, importing); err != nil {
		return "", nil, err
	}
	name := filepath.Base(dir)
	m.receiving[name] = true
	return dir, func() {
		_ = os.RemoveAll(dir) // the next import tries again
		m.one.Lock()
		defer m.one.Unlock()
		delete(m.receiving, name)
	}, nil
}

// promise tells, before bytes are written below dir, that they would not leave the disk enough.
func (m *Mirror) promise(dir string, bytes int64) error {
	m.one.Lock()
	defer m.one.Unlock()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if free := int64(st.Bavail)*int64(st.Bsize) - m.promised; free-bytes < spare {
		return fmt.Errorf("%w: %d bytes are free, a file has %d, and %d are to stay free", ErrNoRoom, free, bytes, int64(spare))
	}
	m.promised += bytes
	return nil
}

// due counts down what was promised as it comes.
type due struct {
	io.Reader
	m    *Mirror
	left int64
}

func (d *due) Read(b []byte) (int, error) {
	n, err := d.Reader.Read(b)
	d.take(min(int64(n), d.left))
	return n, err
}

func (d *due) end() { d.take(d.left) }

func (d *due) take(n int64) {
	d.m.one.Lock()
	defer d.m.one.Unlock()
	d.m.promised -= n
	d.left -= n
}

// put puts what was received in tmp in place. What a kept part is taken over from it is checked beside other imports too, and again when
// one of them was quicker.
func (m *Mirror) put(tmp string, man release.Manifest) (api.Release, error) {
	to := filepath.Join(m.dir, man.Version)
	for {
		m.one.Lock()
		seen := m.changes
		m.one.Unlock()
		linked, err := keepPart(to, tmp, man)
		if err != nil {
			return api.Release{}, err
		}
		r, placed, err := m.putSince(seen, tmp, man.Version)
		if placed || err != nil {
			return r, err
		}
		for _, name := range linked { // of one that may have been removed meanwhile
			if err := os.Remove(filepath.Join(tmp, name)); err != nil {
				return api.Release{}, err
			}
		}
	}
}

// putSince does it unless there was a change since the one that was seen.
func (m *Mirror) putSince(seen uint64, tmp, version string) (r api.Release, placed bool, err error) {
	m.one.Lock()
	defer m.one.Unlock()
	if m.changes != seen {
		return r, false, nil
	}
	m.changes++
	if err := errors.Join(place(tmp, filepath.Join(m.dir, version)), syncDir(m.dir)); err != nil {
		return r, false, err
	}
	r, err = m.read(version)
	return r, true, err
}

// keepPart takes over from a release that is kept what its other part, which was imported in tmp, has not. It returns the names of what it took.
func keepPart(kept, tmp string, man release.Manifest) (linked []string, err error) {
	old, err := os.ReadFile(filepath.Join(kept, release.ManifestName))
	if err != nil {
		return nil, nil //nolint:nilerr // none is kept, or it is damaged
	}
	fresh, err := os.ReadFile(filepath.Join(tmp, release.ManifestName))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(old, fresh) { // another release of that version: it takes the place of the whole
		return nil, nil
	}
	for _, f := range man.Files {
		if _, err := os.Lstat(filepath.Join(tmp, f.Name)); err == nil || checkFile(f, filepath.Join(kept, f.Name)) != nil {
			continue
		}
		err := os.Link(filepath.Join(kept, f.Name), filepath.Join(tmp, f.Name))
		if errors.Is(err, fs.ErrNotExist) { // was replaced, or removed, meanwhile
			continue
		}
		if err != nil {
			return linked, err
		}
		linked = append(linked, f.Name)
	}
	return linked, nil
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
