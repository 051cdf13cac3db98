package probe

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxKernelFile bounds a file of /proc: /proc/stat of a machine with many interrupts is the longest.
const maxKernelFile = 512 << 10

// errAbsent is what a missing kernel file gives.
const errAbsent = unix.ENOENT

// scratch is a buffer that probes share which are read one after the other.
type scratch struct{ buf []byte }

// read returns the content of a file, valid until the next read. It goes past package os, whose files register with
// the poller and allocate, and never blocks on a FIFO.
func (s *scratch) read(path string, limit int) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) })
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if cap(s.buf) == 0 {
		s.buf = make([]byte, 4<<10)
	}
	buf := s.buf[:cap(s.buf)]
	n := 0
	for {
		if n == len(buf) {
			if n > limit {
				return nil, fmt.Errorf("read %s: longer than %d bytes", path, limit)
			}
			buf = append(buf, make([]byte, len(buf))...)
			buf = buf[:cap(buf)]
			s.buf = buf
		}
		got, err := retry(func() (int, error) { return unix.Read(fd, buf[n:]) })
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if got == 0 {
			break
		}
		n += got
	}
	if n > limit {
		return nil, fmt.Errorf("read %s: longer than %d bytes", path, limit)
	}
	return buf[:n], nil
}

// number reads a file that holds one integer, as most of sysfs does.
func (s *scratch) number(path string) (int64, error) {
	raw, err := s.read(path, 4<<10)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(string(bytes.TrimSpace(raw)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse %s: %w", path, err)
	}
	return v, nil
}

// word reads a file that holds one short text; empty when it cannot.
func (s *scratch) word(path string) string {
	raw, err := s.read(path, 4<<10)
	if err != nil {
		return ""
	}
	return string(bytes.Trim(raw, " \t\r\n\x00"))
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// cutLine returns the first line of data, without its end, and the rest.
func cutLine(data []byte) (line, rest []byte) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return data[:i], data[i+1:]
	}
	return data, nil
}

// cutField returns the first blank-separated field of line and the rest; the field is empty at the end.
func cutField(line []byte) (field, rest []byte) {
	i := 0
	for i < len(line) && isBlank(line[i]) {
		i++
	}
	j := i
	for j < len(line) && !isBlank(line[j]) {
		j++
	}
	return line[i:j], line[j:]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// parseUint reads a decimal number.
func parseUint(b []byte) (uint64, bool) {
	v, err := strconv.ParseUint(string(b), 10, 64)
	return v, err == nil
}

// parseFloat reads a number as the text format allows it: no hexadecimal, no underscores.
func parseFloat(b []byte) (float64, bool) {
	if len(b) == 0 || len(b) > 64 || bytes.ContainsAny(b, "_xXpP") {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // beyond the range it is ±Inf, which is what was meant
		return 0, false
	}
	return v, true
}
