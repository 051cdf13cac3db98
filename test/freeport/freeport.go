// Package freeport finds TCP ports that a test may leave and come back to. A port that the kernel chose (port 0) is not one:
// while nobody listens there, any connection of any process may be given it as its own end.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel gives ports from 32768 on (ip_local_port_range), a Service's node ports begin at 30000.
const lowest, end = 21000, 30000

// Addr is an address on 127.0.0.1 that nobody else listens on, is given here, or is given by the kernel, until the test ends.
func Addr(t testing.TB) string {
	t.Helper()
	return Row(t, 1)
}

// Row is Addr for count ports in a row; the address is the first one's.
func Row(t testing.TB, count int) string {
	t.Helper()
	first, locks, err := take(count)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unlock(locks) })
	return fmt.Sprintf("127.0.0.1:%d", first)
}

// take locks a file for each port, against the tests of other packages, which run in other processes.
func take(count int) (first int, locks []*os.File, err error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("skerry-test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, nil, fmt.Errorf("take a port: %w", err)
	}
	for range 200 {
		first = lowest + rand.IntN(end-lowest-count)
		if locks, err = lock(dir, first, count); err == nil {
			return first, locks, nil
		}
	}
	return 0, nil, fmt.Errorf("take %d ports in a row from %d to %d: %w", count, lowest, end, err)
}

func lock(dir string, first, count int) (locks []*os.File, err error) {
	for number := first; number < first+count && err == nil; number++ {
		var f *os.File
		if f, err = os.OpenFile(filepath.Join(dir, fmt.Sprint(number)), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			break
		}
		locks = append(locks, f)
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			err = unused(number)
		}
	}
	if err != nil {
		unlock(locks)
		return nil, err
	}
	return locks, nil
}

func unused(number int) error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", number))
	if err != nil {
		return err
	}
	return l.Close()
}

func unlock(locks []*os.File) {
	var errs []error
	for _, f := range locks {
		errs = append(errs, f.Close())
	}
	if err := errors.Join(errs...); err != nil { // of a file that nobody writes
		panic(err)
	}
}
