package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// netnsDir is where ip-netns(8) keeps namespaces.
const netnsDir = "/run/netns"

// spaces runs things in network namespaces, all on one thread that does nothing else: a process that is to die with its
// parent dies with the thread that made it, prctl(2).
type spaces struct {
	prefix string
	tasks  chan func()
	done   chan struct{}
}

func newSpaces(prefix string) *spaces {
	s := &spaces{prefix: prefix, tasks: make(chan func()), done: make(chan struct{})}
	go func() { // ends with close
		defer close(s.done)
		runtime.LockOSThread() // never unlocked: the thread is in another namespace, and ends with this
		for task := range s.tasks {
			task()
		}
	}()
	return s
}

func (s *spaces) close() {
	close(s.tasks)
	<-s.done
}

func (s *spaces) in(host string, fn func() error) error {
	result := make(chan error, 1)
	s.tasks <- func() {
		result <- func() error {
			f, err := os.Open(filepath.Join(netnsDir, s.prefix+host))
			if err != nil {
				return err
			}
			defer f.Close()
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter namespace of %s: %w", host, err)
			}
			return fn()
		}()
	}
	return <-result
}

// MakeSpaces makes a network namespace for each host. Their names begin with prefix; nothing else is touched.
func MakeSpaces(ctx context.Context, prefix string, hosts []string) error {
	for _, h := range hosts {
		if err := ip(ctx, "netns", "add", prefix+h); err != nil {
			return err
		}
		if err := ip(ctx, "-n", prefix+h, "link", "set", "lo", "up"); err != nil {
			return err
		}
	}
	return nil
}

// DropSpaces removes every namespace whose name begins with prefix.
func DropSpaces(ctx context.Context, prefix string) error {
	list, err := filepath.Glob(filepath.Join(netnsDir, prefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range list {
		errs = append(errs, ip(ctx, "netns", "del", filepath.Base(path)))
	}
	return errors.Join(errs...)
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// openTun makes the device of the namespace that the thread is in, with addrs, and routes everything through it.
func openTun(addrs []Addr) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	const name = "wire"
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return nil, errors.Join(fmt.Errorf("make tun device: %w", err), unix.Close(fd))
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "/dev/net/tun")
	if err := configure(name, addrs); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// configure gives the device its addresses, all in one /8, and sets it up: netdevice(7), with a label for each but the first.
func configure(name string, addrs []Addr) error {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	for i, a := range addrs {
		label := name
		if i > 0 {
			label = fmt.Sprintf("%s:%d", name, i)
		}
		if err := setAddr(sock, unix.SIOCSIFADDR, label, a.IP.As4()); err != nil {
			return fmt.Errorf("give %s the address %s: %w", label, a.IP, err)
		}
		if err := setAddr(sock, unix.SIOCSIFNETMASK, label, [4]byte{255}); err != nil {
			return fmt.Errorf("give %s its mask: %w", label, err)
		}
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, ifr)
}

// setAddr calls an ioctl whose argument is a name and a sockaddr_in.
func setAddr(sock int, request uint, name string, addr [4]byte) error {
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		addr unix.RawSockaddrInet4
		rest [8]byte
	}
	copy(ifr.name[:], name)
	ifr.addr.Family, ifr.addr.Addr = unix.AF_INET, addr
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(sock), uintptr(request), uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return errno
	}
	return nil
}
