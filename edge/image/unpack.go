package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unpacker applies layers to a folder. A layer is written by whoever made the image: every path in it is looked up inside the
// folder alone (see place.go), and what it may take is bounded.
type unpacker struct {
	root     *os.Root
	asRoot   bool // owners, and what only root may set, are kept
	maxBytes int64
	maxFiles int

	bytes  int64
	files  int
	mine   map[uint64]struct{}    // paths that the present layer made, hashed: its whiteouts are for those of layers below
	last   place                  // where the entry before was put
	closed map[string]fs.FileMode // folders that get their permissions at the end, as they keep out who is not root
	buf    []byte
}

const (
	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
	xattrPrefix    = "SCHILY.xattr."
	blockBytes     = 512 // what an empty file is counted as
)

func newUnpacker(dir string, maxBytes int64, maxFiles int) (*unpacker, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &unpacker{root: root, asRoot: os.Geteuid() == 0, maxBytes: maxBytes, maxFiles: maxFiles,
		closed: map[string]fs.FileMode{}, buf: make([]byte, copyBuffer)}, nil
}

// module writes a WebAssembly module.
func (u *unpacker) module(in io.Reader, name string) error {
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, in, u.buf)
	if u.bytes += n; u.bytes > u.maxBytes {
		err = badImage("module has more than %d bytes", u.maxBytes)
	}
	return errors.Join(err, f.Close())
}

// layer applies a layer.
func (u *unpacker) layer(in io.Reader) error {
	u.mine, u.last = map[uint64]struct{}{}, place{}
	archive := tar.NewReader(in)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return corrupt(err)
		}
		if err := u.entry(h, archive); err != nil {
			var pathErr *fs.PathError
			var linkErr *os.LinkError
			if !full(err) && (errors.As(err, &pathErr) || errors.As(err, &linkErr)) {
				return fmt.Errorf("entry %.200q: %w", h.Name, err)
			}
			return fmt.Errorf("entry %.200q: %w", h.Name, corrupt(err))
		}
	}
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if u.files++; u.files > u.maxFiles {
		return badImage("image has more than %d files", u.maxFiles)
	}
	if u.bytes += blockBytes; h.Size > u.maxBytes || u.bytes+h.Size > u.maxBytes {
		return badImage("image has more than %d bytes, unpacked", u.maxBytes)
	}
	name := path.Clean("/" + h.Name)[1:]
	if strings.IndexByte(name, 0) >= 0 {
		return badImage("a name with a zero byte")
	}
	if name == "" { // the root itself
		if h.Typeflag != tar.TypeDir {
			return badImage("the root is no folder")
		}
		return u.attributes(".", h)
	}
	dir, base := path.Split(name)
	if base == "." || base == ".." {
		return badImage("a name that is none")
	}
	at, err := u.parent(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		if base == whiteoutOpaque {
			return u.clear(at, false)
		}
		return nil // of a union file system that is long gone
	}
	if hidden, ok := strings.CutPrefix(base, whiteout); ok {
		if hidden == "" || hidden == "." || hidden == ".." {
			return badImage("a whiteout of nothing")
		}
		return u.clear(path.Join(at, hidden), true)
	}
	return u.put(path.Join(at, base), h, content)
}

// put makes an entry at a path whose folders are real.
func (u *unpacker) put(at string, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeLink && at == u.linked(h) {
		return nil // a link to itself
	}
	for made := at; made != "."; made = path.Dir(made) { // and its folders, though a layer below may have made them
		u.mine[hashed(made)] = struct{}{}
	}
	if err := u.makeWay(at, h.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		if err = u.root.Mkdir(at, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case tar.TypeReg:
		return u.file(at, h, content)
	case tar.TypeSymlink:
		if h.Linkname == "" || strings.IndexByte(h.Linkname, 0) >= 0 || len(h.Linkname) >= unix.PathMax {
			return badImage("a symbolic link to %.80q", h.Linkname)
		}
		err = u.root.Symlink(h.Linkname, at)
		u.last = place{}
	case tar.TypeLink:
		return u.hardLink(at, h)
	case tar.TypeFifo:
		err = u.fifo(at)
	case tar.TypeChar, tar.TypeBlock:
		return badImage("a device; images with devices are not run here")
	default:
		return badImage("an entry of type %q", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return u.attributes(at, h)
}

// makeWay removes what an entry replaces: anything but a folder by a folder, which keeps what is in it.
func (u *unpacker) makeWay(at string, dir bool) error {
	info, err := u.root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || dir && info.IsDir() {
		return err
	}
	u.last = place{}
	return u.root.RemoveAll(at)
}

func (u *unpacker) file(at string, h *tar.Header, content io.Reader) (err error) {
	f, err := u.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, content, u.buf)
	u.bytes += n
	if err != nil {
		return err
	}
	if u.asRoot {
		if err := f.Chown(h.Uid, h.Gid); err != nil {
			return err
		}
	}
	for key, value := range h.PAXRecords { // capabilities of files; what else there may be belongs to the machine that made them
		if key != xattrPrefix+"security.capability" || !u.asRoot {
			continue
		}
		if err := unix.Fsetxattr(int(f.Fd()), strings.TrimPrefix(key, xattrPrefix), []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set capabilities: %w", err)
		}
	}
	if err := f.Chmod(mode(h)); err != nil { // after the owner, which takes setuid away
		return err
	}
	return u.root.Chtimes(at, time.Time{}, h.ModTime)
}

// linked is where a hard link points to; empty when that cannot be.
func (u *unpacker) linked(h *tar.Header) string {
	name := path.Clean("/" + h.Linkname)[1:]
	dir, base := path.Split(name)
	if base == "" {
		return ""
	}
	at, err := u.existing(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return ""
	}
	return path.Join(at, base)
}

func (u *unpacker) hardLink(at string, h *tar.Header) error {
	target := u.linked(h)
	if target == "" {
		return badImage("a link to %.200q, which is not in the image", h.Linkname)
	}
	info, err := u.root.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
		return badImage("a link to %.200q, which is no file of the image", h.Linkname)
	}
	if err != nil {
		return err
	}
	return u.root.Link(target, at)
}

func (u *unpacker) fifo(at string) error {
	dir, err := u.root.Open(path.Dir(at))
	if err != nil {
		return err
	}
	err = unix.Mknodat(int(dir.Fd()), path.Base(at), unix.S_IFIFO|0o600, 0)
	return errors.Join(err, dir.Close())
}

// attributes sets owner and permissions of anything but a file.
func (u *unpacker) attributes(at string, h *tar.Header) error {
	if u.asRoot {
		if err := u.root.Lchown(at, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	m := mode(h)
	if h.Typeflag == tar.TypeDir && !u.asRoot && m&0o700 != 0o700 {
		u.closed[at] = m
		m |= 0o700
	}
	return u.root.Chmod(at, m)
}

// finish gives folders the permissions that would have been in the way.
func (u *unpacker) finish() error {
	for at, m := range u.closed {
		if err := u.root.Chmod(at, m); err != nil && !errors.Is(err, fs.ErrNotExist) { // a later layer has removed it
			return err
		}
	}
	return nil
}

// mode is what an entry may be: permissions, setuid, setgid, sticky.
func mode(h *tar.Header) fs.FileMode {
	return h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

func hashed(at string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(at)) // never fails
	return h.Sum64()
}
