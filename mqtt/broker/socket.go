package broker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection below TLS that can be asked what is there without waiting for more: so it is left to one
// small goroutine to wait, with no buffer and no frame of TLS or MQTT on its stack.
type socket struct {
	*net.TCPConn
	raw   syscall.RawConn
	eager bool // Read returns errNothing instead of waiting; the reader's
}

func newSocket(conn net.Conn) (*socket, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("%T; wanted TCP", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &socket{TCPConn: tcp, raw: raw}, nil
}

// errNothing says that there is nothing to read now. tls.Conn goes on after an error that is temporary, with whatever
// part of a record it has.
var errNothing error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing to read now" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// Read is net.Conn's, but for errNothing.
func (s *socket) Read(p []byte) (n int, err error) {
	if !s.eager || len(p) == 0 {
		return s.TCPConn.Read(p)
	}
	if s.raw.Read(func(fd uintptr) bool { n, err = readNow(int(fd), p); return true }) != nil {
		return s.TCPConn.Read(p) // closed, or beyond its deadline: it says which
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, errNothing
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError("read", err)}
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func readNow(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// await returns when there is something to read, or reading is over, which the next Read tells. It looks before it waits:
// what came after the last look woke nobody.
func (s *socket) await() {
	looked := false
	_ = s.raw.Read(func(fd uintptr) bool {
		if looked {
			return true
		}
		looked = true
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n != 0 || err != nil
	})
}
