package rootfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// opaque marks a folder that hides what lower layers have there.
const opaque = "trusted.overlay.opaque"

// copyLayer copies one layer over what is in upper, as an overlay would show it: its whiteouts remove, its opaque folders hide.
// Neither tree is left by a symbolic link.
func copyLayer(layer, upper string) error {
	from, err := os.OpenRoot(layer)
	if err != nil {
		return err
	}
	to, err := os.OpenRoot(upper)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	err = fs.WalkDir(from.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := from.Lstat(name)
		if err != nil {
			return err
		}
		return copyEntry(from, to, name, info)
	})
	return errors.Join(err, from.Close(), to.Close())
}

func copyEntry(from, to *os.Root, name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("no owner known")
	}
	there, err := to.Lstat(name)
	if err == nil && (!info.IsDir() || !there.IsDir() || name != "." && isOpaque(from, name)) {
		if err := to.RemoveAll(name); err != nil {
			return err
		}
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		err = to.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case mode.IsRegular():
		err = copyFile(from, to, name)
	case mode&fs.ModeSymlink != 0:
		target, rerr := from.Readlink(name)
		if rerr != nil {
			return rerr
		}
		if err := to.Symlink(target, name); err != nil {
			return err
		}
		return to.Lchown(name, int(st.Uid), int(st.Gid))
	default: // a whiteout, which has done its work, or a device or socket, which works nowhere in a container
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(to.Lchown(name, int(st.Uid), int(st.Gid)), to.Chmod(name, info.Mode()))
}

func isOpaque(from *os.Root, name string) bool {
	d, err := from.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = d.Close() }()
	var value [4]byte
	n, err := unix.Fgetxattr(int(d.Fd()), opaque, value[:])
	return err == nil && string(value[:n]) == "y"
}

func copyFile(from, to *os.Root, name string) error {
	src, err := from.Open(name)
	if err != nil {
		return err
	}
	dst, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(err, src.Close())
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, src.Close(), dst.Close())
}
