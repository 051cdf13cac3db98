// Package skew shows a program, as it is and static or not, a clock that is wrong, and lets the clock jump while it runs.
// Time namespaces do not cover CLOCK_REALTIME, and nothing can be preloaded into a static program. So it is traced: the
// vDSO is hidden from it, which makes it ask the kernel for the time, and the answers are changed. Each of its system
// calls costs it some ten microseconds more.
package skew

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Shift is by how much the clock is off: a number in a file, which the tracer of a program maps and others may change.
type Shift struct{ mem []byte }

// OpenShift opens or makes the file.
func OpenShift(path string) (*Shift, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open clock shift: %w", err)
	}
	defer f.Close()
	const size = 8
	if err := f.Truncate(size); err != nil {
		return nil, fmt.Errorf("open clock shift: %w", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map clock shift: %w", err)
	}
	return &Shift{mem}, nil
}

// Set has the clock jump to be off by d.
func (s *Shift) Set(d time.Duration) { binary.LittleEndian.PutUint64(s.mem, uint64(d)) }

// Get is by how much the clock is off.
func (s *Shift) Get() time.Duration { return time.Duration(binary.LittleEndian.Uint64(s.mem)) }

// Close forgets the file.
func (s *Shift) Close() error { return unix.Munmap(s.mem) }
