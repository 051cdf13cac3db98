package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Config is what a container sees.
type Config struct {
	Dir        string   // of the bundle: holds root, upper and work
	Lower      []string // folders of the layers, the topmost first
	Mounts     []Mount
	ReadOnly   bool // of the root; mounts have their own
	Privileged bool // devices and kernel settings of the node, all of them
	Work       string
}

// Root is what a supervisor keeps of the root that it is in.
type Root struct {
	Proc *os.Root // the container's processes
	Pts  *os.Root // its terminals
	Null *os.File
}

// Enter makes c the root of the calling process, which has to be in a mount namespace of its own and the first
// of a process namespace. Nothing of the node's files is in reach afterwards but what is open.
func Enter(c *Config) (*Root, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	dir := filepath.Join(c.Dir, "root")
	if err := layer(c, dir); err != nil {
		return nil, err
	}
	root, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.close()
	if c.Work != "" {
		work, err := walk(root, c.Work, makeDirs)
		if err != nil {
			return nil, fmt.Errorf("working directory: %w", err)
		}
		work.close()
	}
	r := &Root{}
	if err := system(root, c); err != nil {
		return nil, err
	}
	for _, m := range c.Mounts {
		if err := bind(root, m); err != nil {
			return nil, err
		}
	}
	if err := pivot(root); err != nil {
		return nil, err
	}
	if c.ReadOnly {
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NODEV, ""); err != nil {
			return nil, fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return r, r.open()
}

// open takes hold of what the container might later move out of the way.
func (r *Root) open() error {
	var err1, err2, err3 error
	r.Proc, err1 = os.OpenRoot("/proc")
	r.Pts, err2 = os.OpenRoot("/dev/pts")
	r.Null, err3 = os.OpenFile("/dev/null", os.O_RDWR, 0)
	return errors.Join(err1, err2, err3)
}

// pivot makes root the root of this process and takes the old one away.
func pivot(root file) error {
	if err := unix.Fchdir(root.fd); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil { // the old root comes to lie on top of the new one
		return fmt.Errorf("exchange roots: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("take the old root away: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return nil
}

// layer mounts the image with the container's own layer on top at dir. Where the kernel has no overlay, or none on this file
// system, the image is copied.
func layer(c *Config, dir string) error {
	upper := filepath.Join(c.Dir, "upper")
	err := overlay(c, dir, upper)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("mount overlay: %w", err)
	}
	for i := len(c.Lower) - 1; i >= 0; i-- {
		if err := copyLayer(c.Lower[i], upper); err != nil {
			return fmt.Errorf("copy image, as there is no overlay here (%w): %w", unix.ENODEV, err)
		}
	}
	if err := unix.Mount(upper, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount copy of the image: %w", err)
	}
	return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NODEV, "")
}

// overlay names the layers by descriptors: options have but a page, and commas and colons mean something in them.
func overlay(c *Config, dir, upper string) error {
	options := "lowerdir="
	for i, l := range c.Lower {
		f, err := openRoot(l)
		if err != nil {
			return err
		}
		defer f.close()
		if i > 0 {
			options += ":"
		}
		options += f.path()
	}
	up, err := openRoot(upper)
	if err != nil {
		return err
	}
	defer up.close()
	work, err := openRoot(filepath.Join(c.Dir, "work"))
	if err != nil {
		return err
	}
	defer work.close()
	options += ",upperdir=" + up.path() + ",workdir=" + work.path()
	return unix.Mount("overlay", dir, "overlay", unix.MS_NODEV, options)
}
