package rootfs

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mount shows a file or folder of the node in the container.
type Mount struct {
	Source   string
	Within   string // folder that Source may not leave by symbolic links; empty: they are followed
	Target   string
	ReadOnly bool
	Devices  bool // devices in it work
}

// bind mounts m at its place beneath root, which is made when it is missing.
func bind(root file, m Mount) error {
	src, err := source(m)
	if err != nil {
		return fmt.Errorf("mount %s: source: %w", m.Target, err)
	}
	defer src.close()
	create := makeDirs
	if src.mode != unix.S_IFDIR {
		create = makeFile
	}
	dst, err := walk(root, m.Target, create)
	if err != nil {
		return fmt.Errorf("mount %s: target: %w", m.Target, err)
	}
	defer dst.close()
	if (src.mode == unix.S_IFDIR) != (dst.mode == unix.S_IFDIR) {
		return fmt.Errorf("mount %s: one of source and target is a folder, the other is not", m.Target)
	}
	if err := place(src.path(), dst, m); err != nil {
		return fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
	}
	return nil
}

func source(m Mount) (file, error) {
	if m.Within == "" {
		fd, err := unix.Open(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return file{}, fmt.Errorf("%s: %w", m.Source, err)
		}
		return stat(fd)
	}
	rel, err := filepath.Rel(m.Within, m.Source)
	if err != nil || !filepath.IsLocal(rel) {
		return file{}, fmt.Errorf("%s: wanted a path within %s", m.Source, m.Within)
	}
	top, err := openRoot(m.Within)
	if err != nil {
		return file{}, err
	}
	defer top.close()
	return walk(top, rel, nil)
}

func stat(fd int) (file, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return file{}, errors.Join(err, unix.Close(fd))
	}
	return file{fd, st.Mode & unix.S_IFMT}, nil
}

// place mounts what is at src over dst, with the mounts below it when the kernel can make all of them read-only at once, and
// without otherwise: none shall be writable by oversight.
func place(src string, dst file, m Mount) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if !m.Devices {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if m.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, src, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err == nil {
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
		if err == nil {
			err = unix.MoveMount(tree, "", dst.fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		}
		err = errors.Join(err, unix.Close(tree))
	}
	if !errors.Is(err, unix.ENOSYS) { // before Linux 5.12
		return err
	}
	return placeAlone(src, dst, m)
}

// placeAlone is place with what older kernels have, without the mounts below src.
func placeAlone(src string, dst file, m Mount) error {
	if err := unix.Mount(src, dst.path(), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOSUID)
	if !m.Devices {
		flags |= unix.MS_NODEV
	}
	if m.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	return remountBind(src, dst, flags)
}

// remountBind adds flags to a mount that was just made at dst; those that its source has stay.
func remountBind(src string, dst file, flags uintptr) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(src, &fs); err != nil {
		return err
	}
	// What statfs tells has the values of what mount takes, for these.
	const kept = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME
	flags |= uintptr(fs.Flags) & kept
	// The descriptor is of what lies below the new mount; its name leads to what is on top, and has no links any more.
	name, err := readlink(dst.path())
	if err != nil {
		return err
	}
	return unix.Mount("", name, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
}

func readlink(p string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink(p, buf)
	return string(buf[:max(n, 0)]), err
}
