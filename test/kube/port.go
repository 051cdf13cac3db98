package kube

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// port is a TCP port that stays ours while the API server is away: a socket is bound to it and never listens, so that
// nobody else gets the port and connections are refused. The API server binds beside it (--permit-port-sharing).
type port struct {
	number int
	fd     int
}

func reserve(address string) (*port, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Is4() {
		return nil, fmt.Errorf("reserve a port: address %q: wanted IPv4", address)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve a port on %s: %w", address, err)
	}
	p := &port{fd: fd}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: ip.As4()})
	}
	var bound unix.Sockaddr
	if err == nil {
		bound, err = unix.Getsockname(fd)
	}
	if err != nil {
		p.release()
		return nil, fmt.Errorf("reserve a port on %s: %w", address, err)
	}
	p.number = bound.(*unix.SockaddrInet4).Port
	return p, nil
}

func (p *port) release() { _ = unix.Close(p.fd) } // nothing was written

func (p *port) at(address string) string { return net.JoinHostPort(address, fmt.Sprint(p.number)) }
