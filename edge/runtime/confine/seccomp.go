package confine

import "golang.org/x/sys/unix"

// denial is one system call that containers are refused, unless they have a capability that it is for.
type denial struct {
	number uint32
	unless string // empty: never lifted
}

// abi is one way in which programs call the kernel; a processor may have two.
type abi struct {
	arch    uint32 // AUDIT_ARCH_…
	x32     bool   // calls with bit 30 are another way, which nobody needs
	clone   uint32
	clone3  uint32
	refused []denial
}

// What a filter answers.
const (
	allow  = unix.SECCOMP_RET_ALLOW
	refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	absent = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// namespaces are the flags of clone that make new ones. A user namespace would give a program all capabilities in it, and a way
// to much of the kernel that is otherwise root's.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Where the fields of seccomp_data are: nr, arch, then the arguments of eight bytes each, of which clone's flags are the low
// half of the first. All our processors are little-endian.
const (
	atNumber = 0
	atArch   = 4
	atFlags  = 16
)

func load(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

func answer(a uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: a} }

// jump goes on when the accumulator compares with k, and skips over otherwise.
func jump(op uint16, k uint32, otherwise uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, K: k, Jf: otherwise}
}

// filter is the program for a container with these capabilities, for every way into the kernel that it may use. What is of no
// such way does not exist.
func filter(set Set) []unix.SockFilter {
	prog := []unix.SockFilter{load(atArch)}
	for _, a := range abis {
		part := a.program(set)
		// The part may be longer than what one jump reaches; so skip it with an unconditional one.
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, K: a.arch, Jt: 1},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(part))})
		prog = append(prog, part...)
	}
	return append(prog, answer(absent))
}

func (a *abi) program(set Set) []unix.SockFilter {
	prog := []unix.SockFilter{load(atNumber)}
	if a.x32 {
		prog = append(prog, jump(unix.BPF_JGE, 1<<30, 1), answer(absent))
	}
	for _, d := range a.refused {
		if d.unless == "" || !set.Has(d.unless) {
			prog = append(prog, jump(unix.BPF_JEQ, d.number, 1), answer(refuse))
		}
	}
	if set.Has("SYS_ADMIN") {
		return append(prog, answer(allow))
	}
	// Its arguments are in memory, where no filter sees them; programs then take clone.
	prog = append(prog, jump(unix.BPF_JEQ, a.clone3, 1), answer(absent))
	prog = append(prog, jump(unix.BPF_JEQ, a.clone, 3), load(atFlags), jump(unix.BPF_JSET, namespaces, 1), answer(refuse))
	return append(prog, answer(allow))
}
