package shim

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
)

// terminal makes a pair of ends among the container's own terminals. The first is for us, the second for a program.
func terminal(pts *os.Root) (ours, theirs *os.File, err error) {
	dir, err := pts.Open(".")
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	fd, err := unix.Openat(int(dir.Fd()), "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("unlock terminal: %w", err), unix.Close(fd))
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("number of the terminal: %w", err), unix.Close(fd))
	}
	other, err := unix.Openat(int(dir.Fd()), strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open terminal %d: %w", n, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "terminal"), os.NewFile(uintptr(other), "terminal"), nil
}

// resize tells a terminal its size.
func resize(t *os.File, size bundle.Size) error {
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: size.Columns, Row: size.Rows})
	})
	return errors.Join(err, serr)
}

// pipe makes one whose one end we use without blocking a thread, and whose other end is a program's.
func pipe(weRead bool) (ours, theirs *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	mine, other := fds[0], fds[1]
	if !weRead {
		mine, other = other, mine
	}
	if err := unix.SetNonblock(mine, true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(mine), unix.Close(other))
	}
	return os.NewFile(uintptr(mine), "pipe"), os.NewFile(uintptr(other), "pipe"), nil
}
