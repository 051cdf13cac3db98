package confine

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Profile is what a program of a container is left with.
type Profile struct {
	Set        Set
	Privileged bool // it may do all that root of the node may
	filter     []unix.SockFilter
}

// NewProfile prepares one; without tells what this kernel cannot enforce.
func NewProfile(set Set, privileged bool) (p *Profile, without []string) {
	p = &Profile{Set: set, Privileged: privileged}
	if privileged {
		return p, nil
	}
	if !filters() {
		return p, []string{"seccomp: this kernel filters no system calls"}
	}
	p.filter = filter(set)
	return p, nil
}

// filters asks the kernel with a filter of no address, which one that has them refuses as a bad address.
func filters() bool {
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0)
	return errors.Is(err, unix.EFAULT)
}

// Thread confines the calling thread, which must be locked to its goroutine and end with it. What the thread may do itself stays
// enough to become another user.
func (p *Profile) Thread() error {
	if p.Privileged {
		return nil
	}
	if err := bound(p.Set); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	if p.filter == nil {
		return nil
	}
	prog := unix.SockFprog{Len: uint16(len(p.filter)), Filter: &p.filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}
