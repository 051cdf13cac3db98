package fault

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// dialFrom connects from a host, and from one of its addresses if it is to be that one, to an address.
func dialFrom(ctx context.Context, n *Network, host string, from netip.Addr, to string) (net.Conn, error) {
	addr, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, err
	}
	var fd int
	err = n.In(host, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	if from.IsValid() {
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("dial %s: %w", to, err)
		}
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // net.FileConn has its own
	if err != nil && err != unix.EINPROGRESS {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	if err := connected(ctx, f); err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	return net.FileConn(f)
}

// connected waits until a socket that connects has done so.
func connected(ctx context.Context, f *os.File) error {
	if end, ok := ctx.Deadline(); ok {
		if err := f.SetWriteDeadline(end); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var code error
	err = raw.Write(func(fd uintptr) bool {
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			code = err
		case errno != 0:
			code = unix.Errno(errno)
		default:
			if _, err := unix.Getpeername(int(fd)); err != nil {
				return false
			}
		}
		return true
	})
	if code != nil {
		return code
	}
	return err
}
