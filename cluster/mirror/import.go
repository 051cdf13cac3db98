package mirror

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
)

// maxImportBytes bounds what one archive may hold.
const maxImportBytes = 16 << 30

// maxWindow bounds what zstd keeps in memory: that of its level 19, and of a bundle.
const maxWindow = 8 << 20

// bounds are of the files that are read as a whole.
var bounds = map[string]int64{release.ManifestName: release.MaxManifestBytes, release.SignatureName: release.MaxSignatureBytes}

// Import takes the release in an archive: tar, plain or packed with gzip or zstd. Files are known by their names, whatever the directory
// that they are in; those that the manifest does not name are left out, those that it names may be missing. Two imports of parts of one
// release add up, also at once: each is received and checked beside the others, and put in place alone.
func (m *Mirror) Import(ctx context.Context, in io.Reader) (api.Release, error) {
	tmp, done, err := m.begin()
	if err != nil {
		return api.Release{}, err
	}
	defer done()
	if err := m.extract(ctx, in, tmp); err != nil {
		return api.Release{}, err
	}
	man, err := m.check(tmp)
	if err != nil {
		return api.Release{}, err
	}
	r, err := m.put(tmp, man)
	r.Unchecked = len(m.keys) == 0
	return r, err
}

// extract writes the files of an archive into dir, all by their last name.
func (m *Mirror) extract(ctx context.Context, in io.Reader, dir string) error {
	plain, end, err := unpacked(in)
	if err != nil {
		return err
	}
	defer end()
	tr := tar.NewReader(plain)
	left := int64(maxImportBytes)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%w: read archive: %w", ErrInvalid, err)
		}
		name := path.Base(h.Name)
		if h.Typeflag != tar.TypeReg || release.ValidName(name) != nil {
			continue
		}
		if most, bounded := bounds[name]; bounded && h.Size > most { // these are read as a whole
			return fmt.Errorf("%w: %s has %d bytes; wanted at most %d", ErrInvalid, name, h.Size, most)
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("%w: the archive holds more than %d bytes", ErrInvalid, int64(maxImportBytes))
		}
		if err := m.write(filepath.Join(dir, name), tr, h.Size); err != nil {
			return err
		}
	}
}

// write makes a file of what comes, once the disk has room for it beside what other imports are about to write.
func (m *Mirror) write(path string, in io.Reader, size int64) error {
	d := &due{Reader: in, m: m, left: size}
	if err := m.promise(filepath.Dir(path), size); err != nil {
		return err
	}
	defer d.end()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, d)
	return errors.Join(err, f.Sync(), f.Close())
}

// unpacked undoes the compression that the first bytes tell of.
func unpacked(in io.Reader) (plain io.Reader, end func(), err error) {
	b := bufio.NewReaderSize(in, 64<<10)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case strings.HasPrefix(string(head), "\x1f\x8b"):
		zr, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return zr, func() { _ = zr.Close() }, nil
	case string(head) == "\x28\xb5\x2f\xfd":
		zr, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return zr, zr.Close, nil
	}
	return b, func() {}, nil
}

// check reads the manifest in dir, and drops or refuses what is not as it says.
func (m *Mirror) check(dir string) (release.Manifest, error) {
	raw, err := os.ReadFile(filepath.Join(dir, release.ManifestName))
	if err != nil {
		return release.Manifest{}, fmt.Errorf("%w: it has no %s", ErrInvalid, release.ManifestName)
	}
	sig, err := os.ReadFile(filepath.Join(dir, release.SignatureName))
	if err != nil {
		return release.Manifest{}, fmt.Errorf("%w: it has no %s", ErrInvalid, release.SignatureName)
	}
	var man release.Manifest
	if len(m.keys) > 0 {
		man, err = release.Verify(raw, sig, m.keys)
	} else {
		man, err = release.Decode(raw)
	}
	if err != nil {
		return man, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return man, err
	}
	kept := 0
	for _, e := range list {
		name := e.Name()
		if name == release.ManifestName || name == release.SignatureName {
			continue
		}
		f, err := man.FileNamed(name)
		if err != nil {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return man, err
			}
			continue
		}
		if err := checkFile(f, filepath.Join(dir, name)); err != nil {
			return man, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		kept++
	}
	if kept == 0 {
		return man, fmt.Errorf("%w: of what its manifest names there is nothing", ErrInvalid)
	}
	return man, nil
}

func checkFile(f release.File, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	return f.Check(in)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
