package rootfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// filesystem is one that every container has.
type filesystem struct {
	target, kind string
	flags        uintptr
	options      string
}

const plain = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV

// filesystems are those of a container that is not privileged, in their order.
var filesystems = []filesystem{
	{"/proc", "proc", plain, ""},
	{"/sys", "sysfs", plain | unix.MS_RDONLY, ""},
	{"/dev", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_STRICTATIME, "mode=755,size=64k"},
	{"/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"},
	{"/dev/shm", "tmpfs", plain, "mode=1777,size=64m"},
}

// devices are the node's own that every container has; all others are out of reach, as no mount but these lets devices work.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

var deviceLinks = [][2]string{{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}}

// hidden shows nothing and fixed cannot be written: they are of the node's kernel, and its root user is the container's.
var (
	hidden = []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"}
	fixed = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// system mounts what programs expect of every machine.
func system(root file, c *Config) error {
	for _, f := range filesystems {
		if c.Privileged && f.target == "/sys" {
			f.flags &^= unix.MS_RDONLY
		}
		if c.Privileged && f.target == "/dev" {
			if err := bind(root, Mount{Source: "/dev", Target: "/dev", Devices: true}); err != nil {
				return err
			}
			continue
		}
		if err := f.mount(root); err != nil {
			return err
		}
	}
	if c.Privileged {
		return nil
	}
	for _, name := range devices {
		if err := bind(root, Mount{Source: "/dev/" + name, Target: "/dev/" + name, Devices: true}); err != nil {
			return err
		}
	}
	dev, err := walk(root, "/dev", nil)
	if err != nil {
		return err
	}
	defer dev.close()
	for _, l := range deviceLinks {
		if err := unix.Symlinkat(l[0], dev.fd, l[1]); err != nil {
			return fmt.Errorf("link /dev/%s: %w", l[1], err)
		}
	}
	return conceal(root)
}

func (f *filesystem) mount(root file) error {
	dst, err := walk(root, f.target, makeDirs)
	if err != nil {
		return err
	}
	defer dst.close()
	if err := unix.Mount(f.kind, dst.path(), f.kind, f.flags, f.options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", f.kind, f.target, err)
	}
	return nil
}

// conceal covers what is hidden and fixes what is not to be written. What this kernel does not have is left out.
func conceal(root file) error {
	for _, p := range hidden {
		if err := cover(root, p); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("hide %w", err)
		}
	}
	for _, p := range fixed {
		f, err := walk(root, p, nil)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		err = place(f.path(), f, Mount{ReadOnly: true})
		f.close()
		if err != nil {
			return fmt.Errorf("make %s read-only: %w", p, err)
		}
	}
	return nil
}

// cover puts something empty over p.
func cover(root file, p string) error {
	f, err := walk(root, p, nil)
	if err != nil {
		return err
	}
	defer f.close()
	if f.mode == unix.S_IFDIR {
		err = unix.Mount("tmpfs", f.path(), "tmpfs", plain|unix.MS_RDONLY, "size=4k")
	} else {
		err = place("/dev/null", f, Mount{ReadOnly: true, Devices: true})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}
